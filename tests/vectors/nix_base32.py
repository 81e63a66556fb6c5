"""nixbase32: section 1 of the project's vectors-nix.md."""

ROWS: list[tuple[str, str]] = [
    ("", ""),
    ("00", "00"),
    ("1f", "0z"),
    ("20", "10"),
    ("ff", "7z"),
    ("0001", "0080"),
    ("0100", "0001"),
    ("80", "40"),
    ("8000", "0040"),
    ("0080", "1000"),
    ("ffff", "1zzz"),
    ("010203", "060h1"),
    ("0102030405", "0l2060h1"),
    ("ffffffffff", "zzzzzzzz"),
    ("000000000001", "0100000000"),
    ("8a12321522fd91efbd60ebb2481af88580f61600", "00bgd045z0d4icpbc2yyz4gx48ak44la"),
    ("00" * 20, "00000000000000000000000000000000"),
    ("ff" * 20, "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"),
    (bytes(range(20)).hex(), "2c91240g1q6hq2qa1440f1h50h1h4080"),
    (bytes(range(32)).hex(), "07qy3lf1n6hr30bic58l2c91240g1q6hq2qa1440f1h50h1h4080"),
    ("ff" * 32, "1zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"),
    (
        "b3a24de97a8fdbc835b9833169501030b8977031bcb54b3b3ac13740f846ab30",
        "0c5b8vw40dy178xlpddw65q9gf1h2186jcc3p4swinwggbllv8mk",
    ),
    (
        "b3a24de97a8fdbc835b9833169501030b8977031bcb54b3b3ac13740f846abb0",
        "1c5b8vw40dy178xlpddw65q9gf1h2186jcc3p4swinwggbllv8mk",
    ),
    ("d41d8cd98f00b204e9800998ecf8427e", "3y8bwfr609h3lh9ch0izcqq7fl"),
    ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "143xibwh31h9bvxzalr0sjvbbvpa6ffs"),
    (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
    ),
    (
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
        "0zdl9zrg8r3i9c1g90lgg9ip5ijzv3yhz91i0zzn3r8ap9ws784gkp9dk9j3aglhgf1amqb0pj21mh7h1nxcl18akqvvf7ggqsy30yg",
    ),
    ("6016777997c30ab02413cf5095622cd7924283ac", "mj1l54np5ii9al6g2cjb02n3jxwpf5k0"),
    (
        "a5ce9c155ed09397614646c9717fc7cd94b1023d7b76b618d409e4fefd6e9d39",
        "0fcxdvyzxr09shcbcxkv7l1b356dqxzp3ja68rhrg4yhbqarrkm5",
    ),
    ("c4874a8897440b393d862d8fd459073f", "1z0xcx93rdhqykj2s4jy44m1y4"),
    (
        "13a8cf7ca57f68a9f1752acee36a72a55187d3a954443c112818926f26109d91",
        "14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k",
    ),
]
"""Bytes as hex, and their text."""

REJECTED: list[str] = [
    "zz",
    "c0",
    "80",
    "2zzz",
    "0",
    "0zz",
    "000000",
    "0" * 9,
    "0" * 11,
    "0" * 14,
    "2c5b8vw40dy178xlpddw65q9gf1h2186jcc3p4swinwggbllv8mk",
    "0c5b8vw40dy178xlpddw65q9gf1h2186jcc3p4swinwggbllv8m",
    "00bgd045z0d4icpbc2yyz4gx48aku4la",
    "0Z",
    "0e",
    "0o",
    "0t",
    "0u",
    "0-",
    "0_",
    "0 ",
]
"""No bytes have these texts."""

"""Content addresses: section 9 of the project's vectors-nix.md."""

ROWS: list[tuple[str, str, str, str]] = [
    ("fixed:r:sha1:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw", "NAR", "sha1", "5cba3c77236ae4f9650270a27fbad375551fa60a"),
    (
        "fixed:r:sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni",
        "NAR",
        "sha256",
        "d1a2d40a53843d868519a91130773db03b494f040c951fe8d4575a42901d732d",
    ),
    (
        "fixed:sha256:1ih27mgqfzjlas97rvj18s8j3p0bpwb03vr71yrq776vzv1v6fcs",
        "FLAT",
        "sha256",
        "9a39b3c3fedb9c83b30f27ef0116bf0bdc21914641ee7c9256547e875f3d02c6",
    ),
    (
        "text:sha256:1i0xww8znqa2wqbggkmgxy6was90nqc60b4wpv4hvwv1460id9dl",
        "TEXT",
        "sha256",
        "b4a516812161f30dc9be9c2c6018b62069c58defafcef716e64261fb11e71dc4",
    ),
    ("fixed:md5:4c1p2vz4hyhig3d1ifaf3n41zd", "FLAT", "md5", "ed076287532e86365e841e92bfc50d8c"),
    (
        "fixed:r:sha512:2r7w5c1021jk9bja1a5qh24zqr17vwlpm7dq1fazw9fp6d6qny6apqjlcgbp02naca9abisam8bpqhpf22025859pcm75cyb6sj4i8h",
        "NAR",
        "sha512",
        "104522b5599e9553d94d051501847017e2bb50553a2e9514535680bb1ea3125f65bcc5a699eb12ffca05dc4ebd94ef1332fe44405c545072a529830081157eb2",
    ),
]
"""Text, method, algorithm, digest as hex."""

REJECTED: list[str] = [
    "text:sha1:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw",
    "text:md5:4c1p2vz4hyhig3d1ifaf3n41zd",
    "text:r:sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni",
    "fixed:r:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw",
    "r:sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni",
    "source:sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni",
    "fixed:sha256:",
    "fixed:sha256:1ih27mgqfzjlas97rvj18s8j3p0bpwb03vr71yrq776vzv1v6fc",
    "fixed::sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni",
    " fixed:sha256:1ih27mgqfzjlas97rvj18s8j3p0bpwb03vr71yrq776vzv1v6fcs",
    "fixed:sha256:1ih27mgqfzjlas97rvj18s8j3p0bpwb03vr71yrq776vzv1v6fcs ",
    "Fixed:sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni",
    "",
]
"""Not content addresses."""

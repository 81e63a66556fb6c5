"""Store paths: sections 3, 4 and 8 (with digests from 6) of the project's vectors-nix.md."""

COMPRESSED: list[tuple[str, str, str]] = [
    (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "872b570e3c69850fe2a94c9d996fb92427ae41e4",
        "wi0sw9r4p5prk7acm7i0z1b97h75faw7",
    ),
    (bytes(range(32)).hex(), "141414141c1c1c1c141414140c0d0e0f10111213", "2c91240g1q6hq50l2ha1q70w3ha1850l"),
    ("00" * 32, "0000000000000000000000000000000000000000", "00000000000000000000000000000000"),
    ("ff" * 32, "000000000000000000000000ffffffffffffffff", "zzzzzzzzzzzzy0000000000000000000"),
]
"""A sha256 as hex, what it is compressed to, and that in nixbase32."""

PLACEHOLDERS: list[tuple[str, str]] = [
    ("out", "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),
    ("dev", "/02qcpld1y6xhs5gz9bchpxaw0xdhmsp5dv88lh25r2ss44kh8dxz"),
]
"""Output and placeholder."""

NET_TOOLS = "00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432"
NET_TOOLS_DIGEST = "8a12321522fd91efbd60ebb2481af88580f61600"

BASE_NAMES: list[tuple[str, str]] = [
    (NET_TOOLS, "net-tools-1.60_p20170221182432"),
    ("fli4bwscgna7lpm7v5xgnjxrxh0yc7ra-.gitignore", ".gitignore"),
    ("00000000000000000000000000000000-a", "a"),
    ("00000000000000000000000000000000-" + "a" * 211, "a" * 211),
    ("00000000000000000000000000000000-A+z-._?=09", "A+z-._?=09"),
]
"""Base name and the name in it."""

SUB_PATHS: list[tuple[str, str]] = [
    (f"/nix/store/{NET_TOOLS}", ""),
    (f"/nix/store/{NET_TOOLS}/", ""),
    (f"/nix/store/{NET_TOOLS}/bin/arp", "bin/arp"),
    (f"/nix/store/{NET_TOOLS}/bin/arp/", "bin/arp/"),
]
"""Paths in or below net-tools, and the part below."""

REJECTED_BASE_NAMES: list[str] = [
    "00bgd045z0d4icpbc2yy-",
    "00bgd045z0d4icpbc2yy-net-tools-1.60_p20170221182432",
    "00bgd045z0d4icpbc2yyz4gx48aku4la-net-tools-1.60_p20170221182432",
    "00bgd045z0d4icpbc2yyz4gx48ak44lanet-tools-1.60_p20170221182432",
    "00bgd045z0d4icpbc2yyz4gx48ak44la-",
    "00bgd045z0d4icpbc2yyz4gx48ak44la",
    "00000000000000000000000000000000-" + "a" * 212,
    f"{NET_TOOLS}/bin/arp",
    "00000000000000000000000000000000-a b",
    "00000000000000000000000000000000-a~b",
    "00000000000000000000000000000000-a/b",
    "00000000000000000000000000000000-a:b",
    "00000000000000000000000000000000-a@b",
    "00000000000000000000000000000000-é",
    "00000000000000000000000000000000-a\0",
    "00000000000000000000000000000000-a\n",
    "00000000000000000000000000000000-.",
    "00000000000000000000000000000000-..",
    "00000000000000000000000000000000-.-x",
    "00000000000000000000000000000000-..-x",
    "foobar-123",
]
"""Not base names of store paths."""

REJECTED_ABSOLUTE: list[str] = [
    "foobar-123",
    "/nix/store/",
    "/nix/store/foo",
    f"/nix/stor/{NET_TOOLS}",
    NET_TOOLS,
]
"""Not absolute store paths, and not below one either."""

ASCENDING: list[str] = [
    "/nix/store/0lk5dgi01r933abzfj9c9wlndg82yd3g-psutil-5.9.6.tar.gz.drv",
    "/nix/store/1xj43bva89f9qmwm37zl7r3d7m67i9ck-shorttoc-1.3-tex.drv",
    "/nix/store/2gb633czchi20jq1kqv70rx2yvvgins8-lifted-base-0.2.3.12.tar.gz.drv",
    "/nix/store/2vksym3r3zqhp15q3fpvw2mnvffv11b9-docbook-xml-4.5.zip.drv",
    "/nix/store/5q918awszjcz5720xvpc2czbg1sdqsf0-rust_renaming-0.1.0-lib",
    "/nix/store/7jw30i342sr2p1fmz5xcfnch65h4zbd9-dbus-1.14.10.tar.xz.drv",
    "/nix/store/96yqwqhnp3qya4rf4n0rcl0lwvrylp6k-eap8021x-222.40.1.tar.gz.drv",
    "/nix/store/a4i5mci2g9ada6ff7ks38g11dg6iqyb8-perl-5.32.1.drv",
    "/nix/store/a5g76ljava4h5pxlggz3aqdhs3a4fk6p-ToolchainInfo.plist.drv",
    "/nix/store/riv7d73adim8hq7i04pr8kd0jnj93nav-fdk-aac-2.0.2.tar.gz.drv",
    "/nix/store/w6svg3m2xdh6dhx0gl1nwa48g57d3hxh-thiserror-1.0.49",
]
"""Absolute paths in order."""

NAR_DIGESTS: list[tuple[str, str, str]] = [
    ("empty-file", "sha256", "77ac62e2629d8e45f624589c0c8bf99e24b3a722349bf1e79bc186008534e246"),
    ("one-byte", "sha256", "730850a811259dbf3a68dc2ee87a79aa6cae9f71375edf396f9d7a91fbe9134d"),
    ("hello", "sha256", "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"),
    ("hello", "md5", "00d8bb856df42fa018713458ee68e37a"),
    ("hello", "sha1", "dc5bf488f1b6eafda0ec0c0cb8b39a68b253bb62"),
    (
        "hello",
        "sha512",
        "f238a9e9460aba64ed3913d77accda5d2e7a2ff11d2481f38800b34ad64e069a291e214edc06972e119899f5d386767f7525c4f204f84b0f556363af461af436",
    ),
    ("seven", "sha256", "fbd2ce48c62423e363f8b56c4edce18ed7ef006a65c74b5f58b1aa23be7afa09"),
    ("eight", "sha256", "22d63223426447e64aa20d76d506b3e062a2d242bb797536dbf3ee681be3f53c"),
    ("nine", "sha256", "01e23d2c0a14bfecbb8a82b3f11ca003d7322bcfec14c3a1b57168b445480e41"),
    ("exec-empty", "sha256", "34e00b8592a6ad465851a46a67464e076102fd5106ca6cb33a2f15009d30d590"),
    ("exec", "sha256", "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554"),
    ("exec", "md5", "d10f1f32590e76cf213a7889a40293ae"),
    ("exec", "sha1", "fa130d1ddbc120b3b8ae8f1cf33f43276460b059"),
    (
        "exec",
        "sha512",
        "1097bc0da09944b310fc740c8f29df3e3d28a20aa2c58b7f421dbd2277ac41adb77ad2baef55e6bfe60c3303142fea36375e5d5f1e2d1f89be88b851a3c2703f",
    ),
    ("link", "sha256", "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"),
    ("link", "md5", "2c4d191c4278997aed15c15d5fb8dc91"),
    ("link", "sha1", "424eeaaa9cc016bab030bf007cb1be6483e7ba9e"),
    (
        "link",
        "sha512",
        "104522b5599e9553d94d051501847017e2bb50553a2e9514535680bb1ea3125f65bcc5a699eb12ffca05dc4ebd94ef1332fe44405c545072a529830081157eb2",
    ),
    ("link8", "sha256", "986c70c9a2aae61f3149cbe750e64d97fa4778de37d67271a8bffd56cf083a82"),
    ("empty-dir", "sha256", "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a"),
    ("empty-dir", "md5", "dc5f9211c12337ca9b72f9100388e5f7"),
    ("empty-dir", "sha1", "6b4e26abccbb6e379585a0130d959458491e025f"),
    (
        "empty-dir",
        "sha512",
        "4e3e81cded54d8de37cf7492c696fddb5d4c2ce522df4a723c0cb47c51321f907dddb161cf760b5acbeba1dea3773c4e4e15e8378f7427d4f91dd9b5ccc21a34",
    ),
    ("dir-keep", "sha256", "4374173a8cbe88de152b609f96f46e958bcf65762017474eec5a05ec2bd61530"),
    ("complicated", "sha256", "ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"),
    ("complicated", "md5", "7fea5625aca92acc134595d75b8df49e"),
    ("complicated", "sha1", "47de7b79dd27fcac4e1202fe761d0890c1321e59"),
    (
        "complicated",
        "sha512",
        "1f5d43941411f35f09211f8596b426ee6e4dd3af1639e0ed2273cbe44b818fc4a59e3af02a057c5b18fbfcf435497de5f1994206c137f469b3df674966a922f0",
    ),
    ("nested", "sha256", "db3660c942e105c91f57c6c39ddbed03537d5e2b502d26a73a893c2750196539"),
    ("sorting", "sha256", "b53a148fc7c05bc3fcec9d98f6b9e965c19ec9485077b0c5e00e60f8ac5bc6fd"),
    ("prefixdirs", "sha256", "6f3522b76c00a411b32cfdf9c4b74e80f07b6fec115c1d5646b3ae4822ef1e3a"),
    ("mixed", "sha256", "53680cfb4c2c78c1a9d33ceda7b6b6ef75bd19109db719cb80344365e7a0c05e"),
]
"""Sample tree, algorithm, and digest of its NAR as hex."""

FLAT_DIGESTS: list[tuple[str, str, str, str]] = [
    ("hello", "md5", "ed076287532e86365e841e92bfc50d8c", "4c1p2vz4hyhig3d1ifaf3n41zd"),
    ("hello", "sha1", "2ef7bde608ce5404e97d5f042f95f89f1c232871", "f4l2674zz2ajy12zgplh8m6f13kbvxrf"),
    (
        "hello",
        "sha256",
        "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069",
        "0schdl901lnx98l7gmm33x5jvz2xsshli0f15nwm7z7igxjv30vz",
    ),
    (
        "hello",
        "sha512",
        "861844d6704e8573fec34d967e20bcfef3d424cf48be04e6dc08f2bd58c729743371015ead891cc3cf1c9d34b49264b510751b1ff9e537937bc46b5d6ff4ecc8",
        "34frx3gbmmw8ywk6zjzj7qvfl8bar4jnhs9s76gqcf8kbay05qk6x19qxcbvwh8vkk09gj8rwjd9wzyphh7x5jdqgz771aff3b48646",
    ),
    ("exec", "md5", "3e2b31c72181b87149ff995e7202c0e3", "73q0174plrzx4p3f41473k2ary"),
    ("exec", "sha1", "bd971bec88149956458a10fc9c5ecb3eb99dd452", "aba9vf9yrdg9rz0hi92md68li3n1p5xx"),
    (
        "exec",
        "sha256",
        "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf",
        "1gss63iniqw2y8jr0hrlf4ksc2alyzdzgsi05c0h47nj50yns1x8",
    ),
    (
        "exec",
        "sha512",
        "543f39af1ae7a2382ed869cbd1ee1ac598a88eb4e213cd64487c54b5c37722c6207ee6db4fa7e2ed53064259a44115c6da7bbc8c068378bb52a25e7088eeebd6",
        "3bfpvl8f1ga4lmvg21hd35wggdcc5a1licl41jkxpiafkyvwrz21ii2fz1vam3w91jcs4z2nj7ai6653bpd3jv9v0p3i8p73apkjgsl",
    ),
]
"""Sample tree, algorithm, and digest of the contents as hex and in nixbase32."""

FILE_CONTENTS = {"hello": b"Hello World!", "exec": b"#!/bin/sh\n"}
"""What the flat hashes are taken of."""

TREE_PATHS: list[tuple[str, str, str]] = [
    ("fixed:r:sha256", "empty-file", "ij3gw72f4n5z4dz6nnzl1731p9kmjbwr-empty-file"),
    ("fixed:r:sha256", "one-byte", "7mypidn3f4p509bml9jvlasr75rr02s6-one-byte"),
    ("fixed:r:sha256", "hello", "n4hss129xrln71w0nss39bcx6hzsh9bg-hello"),
    ("fixed:r:sha256", "seven", "r6bw585na54dsqqkpszd08kfd8ipkqf4-seven"),
    ("fixed:r:sha256", "eight", "5w06lirh2i8fcjci8vy1ip2bw1yrflx1-eight"),
    ("fixed:r:sha256", "nine", "67yk7968zhc32cqkfpzbbia22j0wfz1r-nine"),
    ("fixed:r:sha256", "exec-empty", "c41hiahdgs9ccfr7vyb27gnr759m6jbd-exec-empty"),
    ("fixed:r:sha256", "exec", "bbn43mk5nwaznbc3bzad7cdzfhc4c2kk-exec"),
    ("fixed:r:sha256", "link", "hr870lla96737rimmghg3vjcda4zk2y3-link"),
    ("fixed:r:sha256", "link8", "5wz2d3gq2wgpgfz4gihzwqk4dzzc0aqf-link8"),
    ("fixed:r:sha256", "empty-dir", "gygiwca87yqrsr9rgm137lwlyjnz1mg1-empty-dir"),
    ("fixed:r:sha256", "dir-keep", "xn9wl9igmk83gb5gix29fgmjrypsrx0l-dir-keep"),
    ("fixed:r:sha256", "complicated", "pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated"),
    ("fixed:r:sha256", "nested", "2vwipcxqxxmpl8q15xhcy69mfsrbw1yh-nested"),
    ("fixed:r:sha256", "sorting", "3afm72bzxgd9vij4dphn90qvfjv4ym4z-sorting"),
    ("fixed:r:sha256", "prefixdirs", "4agas8mjbw7039lhgb8hhzjai6l5rps5-prefixdirs"),
    ("fixed:r:sha256", "mixed", "2s8a5byx6qfag47pfd4f9cp90bqy6m07-mixed"),
    ("fixed:r:md5", "hello", "355a4gs0bx8fm5269r7d6xkvy85ma8gi-hello"),
    ("fixed:md5", "hello", "div16k3psvhcl5kgaljndcj51hpjxzc6-hello"),
    ("fixed:r:sha1", "hello", "bnxwasy5gl3lcpnpn6bv0pvc4fshav7b-hello"),
    ("fixed:sha1", "hello", "jgd6i4cxyyayvijzlpbknd81a6nf712x-hello"),
    ("fixed:sha256", "hello", "1sb2j9y0pk8hxcajw6313hsc9rrdgzkf-hello"),
    ("fixed:r:sha512", "hello", "w2x3slk78sxn9sa4zqja4cixjv0lmc9w-hello"),
    ("fixed:sha512", "hello", "lnqqii2agj3skdkvfamfvl2x15glwh2p-hello"),
    ("fixed:r:md5", "exec", "rpylm74iqlb4265fhkl3azaxlpv8vhmn-exec"),
    ("fixed:md5", "exec", "ypn47qz8bcvngn6956prdiryg3n8qiyr-exec"),
    ("fixed:r:sha1", "exec", "4ahq6j4vjl6rbhmjb08pkrca10c6clg3-exec"),
    ("fixed:sha1", "exec", "j8vkvvkf671s1hrflwyficjb2fb7j97a-exec"),
    ("fixed:sha256", "exec", "ljkchh5hchchvncvwxwzgd2bwf5h9aaq-exec"),
    ("fixed:r:sha512", "exec", "jc8ja75rh1971hi23vm5v74x246r67aa-exec"),
    ("fixed:sha512", "exec", "2kn6kswmwi3mcral6i5db2hl9zp79clj-exec"),
    ("fixed:r:md5", "link", "8in4xid4scxm0aaal06r83yicrh6imz0-link"),
    ("fixed:r:sha1", "link", "7k6973clj4641dfw0chyh8jnh8iylcyb-link"),
    ("fixed:r:sha512", "link", "li7jkggc94fqv9zcrm0fh4z0wc3hdll1-link"),
    ("fixed:r:md5", "complicated", "b03yms7gcbx44gy0g7ihsiyvbdpjqq5h-complicated"),
    ("fixed:r:sha1", "complicated", "qkka10kmilxds7pd3qcf1i6qzwxxxzbr-complicated"),
    ("fixed:r:sha512", "complicated", "w8brlp4v5pr8dxqxy7pay3i05ba27brx-complicated"),
    ("fixed:r:md5", "empty-dir", "sqkhp7sy3raypmznkglglv1n57sdaycs-empty-dir"),
    ("fixed:r:sha1", "empty-dir", "bhnr1bxjg84ycv248zdklbx8fxcxrmmb-empty-dir"),
    ("fixed:r:sha512", "empty-dir", "vmbdzyrbaslz0mkyb17ixkfm8fgd9q5h-empty-dir"),
]
"""Method, sample tree (its name is the name), and base name."""

OTHER_STORE_DIR_PATHS: list[tuple[str, str, str]] = [
    ("fixed:r:sha256", "hello", "hwqcr0ld81qpz1vwcxp2a3nq3c6zhc2c-hello"),
    ("fixed:r:sha256", "complicated", "lnh0jyka145jwafjshasp9jja5hv51xx-complicated"),
    ("fixed:sha256", "hello", "yh4jh3v8r9fvgsvhj0q46azp2lhy7d58-hello"),
]
"""As `TREE_PATHS`, in the store directory `/foo/store`."""

TEXT_PATHS: list[tuple[str, bytes, list[str], str]] = [
    ("foo", b"bar", [], "vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo"),
    (
        "baz",
        b"/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo",
        ["vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo"],
        "5xd714cbfnkz02h2vbsj4fm03x3f15nf-baz",
    ),
    ("a", b"2", [], "8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a"),
    ("b", b"1", [], "wka3152ahip217g5zn7wghj7086d866z-b"),
    (
        "two",
        b"/nix/store/wka3152ahip217g5zn7wghj7086d866z-b /nix/store/8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a",
        ["8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a", "wka3152ahip217g5zn7wghj7086d866z-b"],
        "4v0qnwg1sfll0grrkf7jpqkbqlpvndf7-two",
    ),
    ("empty", b"", [], "wflv0hgb0qb1ddc5nxmsg0y9zjjhfvmh-empty"),
]
"""Name, contents, base names of the references, base name."""

DIGEST_PATHS: list[tuple[str, list[str], str, str]] = [
    ("fixed:r:sha1:0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33", [], "bar", "mp57d33657rf34lzvlbpfa1gjfv5gmpg-bar"),
    (
        "fixed:r:sha256:1xqkzcb3909fp07qngljr4wcdnrh1gdam1m2n29i6hhrxlmkgkv1",
        ["dxwkwjzdaq7ka55pkk252gh32bgpmql4-foo"],
        "baz",
        "s89y431zzhmdn3k8r96rvakryddkpv2v-baz",
    ),
    (
        "fixed:r:sha1:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw",
        [],
        "texlive-hyphenex-37354",
        "k20pahypzvr49fy82cw5sx72hdfg3qcr-texlive-hyphenex-37354",
    ),
]
"""Content address, base names of the references, name, base name."""

TYPED_PATHS: list[tuple[str, str, str, str]] = [
    (
        "source",
        "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040",
        "hello",
        "n4hss129xrln71w0nss39bcx6hzsh9bg-hello",
    ),
    (
        "output:out",
        "c7a9c6e28294ba796dc533b159a887bd64f63e03b07b90f274df7ddc295659e8",
        "hello",
        "jgd6i4cxyyayvijzlpbknd81a6nf712x-hello",
    ),
    (
        "text:/nix/store/8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a:/nix/store/wka3152ahip217g5zn7wghj7086d866z-b",
        "22a6e78d6ddd5ee2ab22a8f31437b155afd9021c69e136b28feb877ba6fad7c4",
        "two",
        "4v0qnwg1sfll0grrkf7jpqkbqlpvndf7-two",
    ),
]
"""Type, inner digest, name, base name: the worked examples."""

SELF_NAME = "selfref"
SELF_HASH_PART = "8hs40s8n82l21p9arah3dvpip2jbsphc"
SELF_CONTENTS = b"""me /nix/store/8hs40s8n82l21p9arah3dvpip2jbsphc-selfref
dep /nix/store/i1j3ls10n66w1rqzxjmzvpg859cwk2yr-dep
"""
"""A regular file that refers to itself and to `DEP_NAR_PATH`."""
SELF_NAR_DIGEST = "416d4513aa239a72da39ac7ae9f2adfe3e7ace3dbade38a24ce13976f1030bb2"
SELF_MODULO_DIGEST = "d1a2d40a53843d868519a91130773db03b494f040c951fe8d4575a42901d732d"
SELF_CA = "fixed:r:sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni"

DEP_CONTENTS = b"dependency\n"
DEP_NAR_CA = "fixed:r:sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4"
DEP_NAR_PATH = "i1j3ls10n66w1rqzxjmzvpg859cwk2yr-dep"
DEP_TEXT_PATH = "n179qs7qqq9ws0mslml7i2pakwn69xm7-dep"

TWICE_CONTENTS = b"8hs40s8n82l21p9arah3dvpip2jbsphc 8hs40s8n82l21p9arah3dvpip2jbsphc"
TWICE_SUFFIX = b"|96|129"
TWICE_MODULO_DIGEST = "8781310d97adad3119216059d8bedc53885c5a8b1658e9ce5eae04c490f465ac"
"""Of the NAR of a regular file with `TWICE_CONTENTS`, modulo `SELF_HASH_PART`."""

"""narinfo documents: sections 11, 12 and 13 of the project's vectors-nix.md."""

GENERATED: list[tuple[str, str]] = [
    (
        (
            "StorePath: /nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated\n"
            "URL: nar/06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb.nar\n"
            "Compression: none\n"
            "FileHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
            "FileSize: 840\n"
            "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
            "NarSize: 840\n"
            "References: \n"
            "Sig: spec.example.org-1:A4Dl6aokLQFVvV3ghLckScaDFrwWnhmTKp6TiGwWdBC0mugeHvmcy2P8RpdN6W+VdyJuis6pttxed33c2gooCQ==\n"
            "CA: fixed:r:sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
        ),
        "1;/nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated;sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb;840;",
    ),
    (
        (
            "StorePath: /nix/store/8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a\n"
            "URL: nar/0jbb8p5mgfhm75j5azsp1vbjxmspj63swq6zabnx8zpyp9n78v18.nar\n"
            "Compression: none\n"
            "FileHash: sha256:0jbb8p5mgfhm75j5azsp1vbjxmspj63swq6zabnx8zpyp9n78v18\n"
            "FileSize: 120\n"
            "NarHash: sha256:0jbb8p5mgfhm75j5azsp1vbjxmspj63swq6zabnx8zpyp9n78v18\n"
            "NarSize: 120\n"
            "References: \n"
            "Sig: spec.example.org-1:OC7gvj+w0S+asc4nGXnkBezwmNzfD4cw6PDLSlN32oLZ1NHURHcUKzFLiB67Q9uZGmWSzeRJd/VedRgh9jQPBw==\n"
            "CA: text:sha256:0ddb2gn6wrisva81zidnv03rq083bndqnwar7zhfw5jy4qx5wwyl\n"
        ),
        "1;/nix/store/8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a;sha256:0jbb8p5mgfhm75j5azsp1vbjxmspj63swq6zabnx8zpyp9n78v18;120;",
    ),
    (
        (
            "StorePath: /nix/store/wka3152ahip217g5zn7wghj7086d866z-b\n"
            "URL: nar/0ph7sg2v42irqnrdjhx1niyspaaaw3b88hb2kbl667a835yflg9k.nar\n"
            "Compression: none\n"
            "FileHash: sha256:0ph7sg2v42irqnrdjhx1niyspaaaw3b88hb2kbl667a835yflg9k\n"
            "FileSize: 120\n"
            "NarHash: sha256:0ph7sg2v42irqnrdjhx1niyspaaaw3b88hb2kbl667a835yflg9k\n"
            "NarSize: 120\n"
            "References: \n"
            "Sig: spec.example.org-1:4j9IOzQztQDORHvf5eiMNPSsygZ2HFsC+7es7kWjNNr0bAkqUxMF7XzceYyf6kON1jBGcdZ4UN6Bgz84G2BVBg==\n"
            "CA: text:sha256:0jsvhyvxslhyq14isbx2xajasisp7xdgykl0dffy3z1lzxrv51kb\n"
        ),
        "1;/nix/store/wka3152ahip217g5zn7wghj7086d866z-b;sha256:0ph7sg2v42irqnrdjhx1niyspaaaw3b88hb2kbl667a835yflg9k;120;",
    ),
    (
        (
            "StorePath: /nix/store/4v0qnwg1sfll0grrkf7jpqkbqlpvndf7-two\n"
            "URL: nar/1vyjjlh03mw3cp6jrlhxfmipx1v3ffvmx6ngznl5k3ylgd7q1mqh.nar\n"
            "Compression: none\n"
            "FileHash: sha256:1vyjjlh03mw3cp6jrlhxfmipx1v3ffvmx6ngznl5k3ylgd7q1mqh\n"
            "FileSize: 208\n"
            "NarHash: sha256:1vyjjlh03mw3cp6jrlhxfmipx1v3ffvmx6ngznl5k3ylgd7q1mqh\n"
            "NarSize: 208\n"
            "References: 8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a wka3152ahip217g5zn7wghj7086d866z-b\n"
            "Sig: spec.example.org-1:mmzaBLHtxR5Afq8z5pmDxIb9UeaHXzUkeJAyaPn/wBClWM9RKsQDSQwxFsoLpJysKzuDjVW9A49C+QVUtM73DQ==\n"
            "CA: text:sha256:1i6pzak7p1zbiyr3dqb93h1dkbsmn4vi9wx84amy4pnxdn6yg9i2\n"
        ),
        "1;/nix/store/4v0qnwg1sfll0grrkf7jpqkbqlpvndf7-two;sha256:1vyjjlh03mw3cp6jrlhxfmipx1v3ffvmx6ngznl5k3ylgd7q1mqh;208;/nix/store/8a1xyy23w8b93pg6j3dnj50ykwpflrk7-a,/nix/store/wka3152ahip217g5zn7wghj7086d866z-b",
    ),
    (
        (
            "StorePath: /nix/store/n179qs7qqq9ws0mslml7i2pakwn69xm7-dep\n"
            "URL: nar/13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4.nar\n"
            "Compression: none\n"
            "FileHash: sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4\n"
            "FileSize: 128\n"
            "NarHash: sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4\n"
            "NarSize: 128\n"
            "References: \n"
            "Sig: spec.example.org-1:KxdHJLGsfxHoHl13BVCe66ncClTn7e7A3gX7c3wPIVufqMESiPK7qexe11kAy6/4mT94qKwZyvQ0XNW5LQAnBA==\n"
            "CA: text:sha256:1i0xww8znqa2wqbggkmgxy6was90nqc60b4wpv4hvwv1460id9dl\n"
        ),
        "1;/nix/store/n179qs7qqq9ws0mslml7i2pakwn69xm7-dep;sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4;128;",
    ),
    (
        (
            "StorePath: /nix/store/i1j3ls10n66w1rqzxjmzvpg859cwk2yr-dep\n"
            "URL: nar/13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4.nar\n"
            "Compression: none\n"
            "FileHash: sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4\n"
            "FileSize: 128\n"
            "NarHash: sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4\n"
            "NarSize: 128\n"
            "References: \n"
            "Sig: spec.example.org-1:Fi6HWlHSuRIdGRkCRhaVJudEca4Jex0VmXt9An8eL4w8obYkSLhR9WOYqdX/pWQWj/pHPQo1eDu6pmKxEMRwAQ==\n"
            "CA: fixed:r:sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4\n"
        ),
        "1;/nix/store/i1j3ls10n66w1rqzxjmzvpg859cwk2yr-dep;sha256:13w19wwvpfqyfq1fixzqjphj7dil4vlv9gada02f9kpl04qnmkw4;128;",
    ),
    (
        (
            "StorePath: /nix/store/8hs40s8n82l21p9arah3dvpip2jbsphc-selfref\n"
            "URL: nar/1chb0gqpcfg19ji3ipms7p77lgpymprfjymc77d756i3m89lava1.nar\n"
            "Compression: none\n"
            "FileHash: sha256:1chb0gqpcfg19ji3ipms7p77lgpymprfjymc77d756i3m89lava1\n"
            "FileSize: 224\n"
            "NarHash: sha256:1chb0gqpcfg19ji3ipms7p77lgpymprfjymc77d756i3m89lava1\n"
            "NarSize: 224\n"
            "References: 8hs40s8n82l21p9arah3dvpip2jbsphc-selfref i1j3ls10n66w1rqzxjmzvpg859cwk2yr-dep\n"
            "Sig: spec.example.org-1:WHw8JY13VRbutF8LW9bf+3p2u/CcU8x+rMWh2T1JK0P/sk7HQkAHEhN0WfbZpbiKcWBdFNo2dudp8eIubgPBBA==\n"
            "CA: fixed:r:sha256:0bbk3n844njpskl1z58c0i7ljfxh7mvk04d9362qcgc4ac5d98ni\n"
        ),
        "1;/nix/store/8hs40s8n82l21p9arah3dvpip2jbsphc-selfref;sha256:1chb0gqpcfg19ji3ipms7p77lgpymprfjymc77d756i3m89lava1;224;/nix/store/8hs40s8n82l21p9arah3dvpip2jbsphc-selfref,/nix/store/i1j3ls10n66w1rqzxjmzvpg859cwk2yr-dep",
    ),
    (
        (
            "StorePath: /nix/store/zakymbhglyv1k5dar61m60v453yfakrr-selfref\n"
            "URL: nar/1gxnfdgycakg5nls5nw69cyf7abw6w68zxdrmz5zcx64zxdzy8ri.nar\n"
            "Compression: none\n"
            "FileHash: sha256:1gxnfdgycakg5nls5nw69cyf7abw6w68zxdrmz5zcx64zxdzy8ri\n"
            "FileSize: 224\n"
            "NarHash: sha256:1gxnfdgycakg5nls5nw69cyf7abw6w68zxdrmz5zcx64zxdzy8ri\n"
            "NarSize: 224\n"
            "References: n179qs7qqq9ws0mslml7i2pakwn69xm7-dep zakymbhglyv1k5dar61m60v453yfakrr-selfref\n"
            "Deriver: n51dg1bkk64ck36i3bkaz2a5bk221m39-selfref.drv\n"
            "Sig: spec.example.org-1:rdcd8heqVAYWBNj3ETEjBLtVg/6RGXZp9MFdA+2ZooK1JEdtirR0aUsekqBg/HbWhoThL6mNyp8eqcDYPLNlBA==\n"
        ),
        "1;/nix/store/zakymbhglyv1k5dar61m60v453yfakrr-selfref;sha256:1gxnfdgycakg5nls5nw69cyf7abw6w68zxdrmz5zcx64zxdzy8ri;224;/nix/store/n179qs7qqq9ws0mslml7i2pakwn69xm7-dep,/nix/store/zakymbhglyv1k5dar61m60v453yfakrr-selfref",
    ),
]
"""Document and fingerprint; made by Nix, signed by the first of `nix_keys.KEYS`."""

TVIX_CASTORE = (
    "StorePath: /nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated\n"
    "URL: nar/tvix-castore/CiQSIEJKf2zgjYBdFbQoBi-q6WKZoWddcIw6OSYa_jjN0E_rGAg?narsize=840\n"
    "Compression: none\n"
    "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
    "NarSize: 840\n"
    "References: \n"
    "Sig: spec.example.org-1:A4Dl6aokLQFVvV3ghLckScaDFrwWnhmTKp6TiGwWdBC0mugeHvmcy2P8RpdN6W+VdyJuis6pttxed33c2gooCQ==\n"
    "CA: fixed:r:sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
)

SNIX_CASTORE = (
    "StorePath: /nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated\n"
    "URL: nar/snix-castore/CiQSIEJKf2zgjYBdFbQoBi-q6WKZoWddcIw6OSYa_jjN0E_rGAg?narsize=840\n"
    "Compression: none\n"
    "FileSize: 840\n"
    "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
    "NarSize: 840\n"
    "References: \n"
    "Sig: spec.example.org-1:A4Dl6aokLQFVvV3ghLckScaDFrwWnhmTKp6TiGwWdBC0mugeHvmcy2P8RpdN6W+VdyJuis6pttxed33c2gooCQ==\n"
    "CA: fixed:r:sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
)

CASTORE = (
    "StorePath: /nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated\n"
    "URL: nar/tvix-castore/CiQSIEJKf2zgjYBdFbQoBi-q6WKZoWddcIw6OSYa_jjN0E_rGAg?narsize=840\n"
    "Compression: none\n"
    "FileHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
    "FileSize: 840\n"
    "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
    "NarSize: 840\n"
    "References: \n"
    "Sig: spec.example.org-1:A4Dl6aokLQFVvV3ghLckScaDFrwWnhmTKp6TiGwWdBC0mugeHvmcy2P8RpdN6W+VdyJuis6pttxed33c2gooCQ==\n"
    "CA: fixed:r:sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n"
)

"""One path as tvix, snix and we write it, with the NAR's URL naming the root node; served to Nix and taken by it."""

ACCEPTED: list[tuple[str, str]] = [
    ("Compression: none\n", ""),
    ("Compression: none\n", "Compression: \n"),
    ("FileHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\nFileSize: 840\n", ""),
    ("FileHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n", "FileHash: sha256:xyz\n"),
    ("References: \n", ""),
    ("References: \n", "References:\n"),
    ("Sig: ", "Sig: a:AAAA\nSig: "),
    ("Sig: ", "Sig: nonsense\nSig: "),
    ("CA: ", "Deriver: unknown-deriver\nCA: "),
    ("CA: ", "Deriver: n51dg1bkk64ck36i3bkaz2a5bk221m39-selfref.drv\nCA: "),
    ("CA: ", "Deriver: n51dg1bkk64ck36i3bkaz2a5bk221m39-selfref\nCA: "),
    ("CA: ", "System: x86_64-linux\nCA: "),
    ("CA: ", "Foo: bar\nCA: "),
    (
        "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb",
        "NarHash: sha256:ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a",
    ),
    (
        "CA: fixed:r:sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n",
        "CA: fixed:r:sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb",
    ),
]
"""Changes to `CASTORE`, from what to what, after which it still says the same of the same path, but for the key changed."""

REJECTED: list[tuple[str, str]] = [
    ("StorePath: /nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated\n", ""),
    ("URL: nar/tvix-castore/CiQSIEJKf2zgjYBdFbQoBi-q6WKZoWddcIw6OSYa_jjN0E_rGAg?narsize=840\n", ""),
    ("NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\n", ""),
    ("NarSize: 840\n", ""),
    ("NarSize: 840\n", "NarSize: 0\n"),
    ("NarSize: 840\n", "NarSize: -840\n"),
    ("NarSize: 840\n", "NarSize: 840 \n"),
    ("NarSize: 840\n", "NarSize: 0x348\n"),
    ("NarSize: 840\n", "NarSize: 18446744073709551616\n"),
    ("URL: nar/tvix-castore/CiQSIEJKf2zgjYBdFbQoBi-q6WKZoWddcIw6OSYa_jjN0E_rGAg?narsize=840\n", "URL: \n"),
    (
        "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb",
        "NarHash: sha1:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw",
    ),
    (
        "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb",
        "NarHash: 06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb",
    ),
    (
        "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb",
        "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mg",
    ),
    ("StorePath: /nix/store/", "StorePath: "),
    ("StorePath: /nix/store/", "StorePath: /gnu/store/"),
    ("References: \n", "References: /nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated\n"),
    ("StorePath: ", "StorePath: /nix/store/pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated\nStorePath: "),
    ("URL: ", "URL: nar/a.nar\nURL: "),
    ("NarHash: ", "NarHash: sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\nNarHash: "),
    ("NarSize: ", "NarSize: 840\nNarSize: "),
    ("Compression: ", "Compression: none\nCompression: "),
    ("References: ", "References: \nReferences: "),
    ("CA: ", "Deriver: n51dg1bkk64ck36i3bkaz2a5bk221m39-a.drv\nDeriver: n51dg1bkk64ck36i3bkaz2a5bk221m39-b.drv\nCA: "),
    ("CA: ", "CA: fixed:r:sha256:06li2smqgskxxr291x1cgzf61rzm7c8f93bisnglq0nzm1wj5mgb\nCA: "),
    ("CA: ", "nonsense\nCA: "),
    ("CA: ", "\nCA: "),
    ("NarSize: 840\n", "NarSize: 840\r\n"),
    ("NarSize: 840\n", "NarSize:840\n"),
    ("CA: ", "Foo: \0\nCA: "),
    ("CA: ", "Foo: \udcff\nCA: "),
]
"""Changes to `CASTORE` after which it is no narinfo; what cannot be UTF-8 is written as the surrogate of its byte."""

REAL: dict[str, str] = {
    "curl-7.82.0-bin": (
        "StorePath: /nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin\n"
        "URL: nar/05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56.nar.xz\n"
        "Compression: xz\n"
        "FileHash: sha256:05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56\n"
        "FileSize: 68852\n"
        "NarHash: sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0\n"
        "NarSize: 196040\n"
        "References: 0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0 6w8g7njm4mck5dmjxws0z1xnrxvl81xa-glibc-2.34-115 j5jxw3iy7bbz4a57fh9g2xm2gxmyal8h-zlib-1.2.12 yxvjs9drzsphm9pcf42a4byzj1kb9m7k-openssl-1.1.1n\n"
        "Deriver: 5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0.drv\n"
        "Sig: cache.nixos.org-1:TsTTb3WGTZKphvYdBHXwo6weVILmTytUjLB+vcX89fOjjRicCHmKA4RCPMVLkj6TMJ4GMX3HPVWRdD1hkeKZBQ==\n"
        "Sig: test1:519iiVLx/c4Rdt5DNt6Y2Jm6hcWE9+XY69ygiWSZCNGVcmOcyL64uVAJ3cV8vaTusIZdbTnYo9Y7vDNeTmmMBQ==\n"
    ),
    "texlive-hyphenex-37354": (
        "StorePath: /nix/store/k20pahypzvr49fy82cw5sx72hdfg3qcr-texlive-hyphenex-37354\n"
        "URL: nar/0i5biw0g01514llhfswxy6xfav8lxxdq1xg6ik7hgsqbpw0f06yi.nar.xz\n"
        "Compression: xz\n"
        "FileHash: sha256:0i5biw0g01514llhfswxy6xfav8lxxdq1xg6ik7hgsqbpw0f06yi\n"
        "FileSize: 7120\n"
        "NarHash: sha256:0h1bm4sj1cnfkxgyhvgi8df1qavnnv94sd0v09wcrm971602shfg\n"
        "NarSize: 22552\n"
        "References: \n"
        "Sig: cache.nixos.org-1:u01BybwQhyI5H1bW1EIWXssMDhDDIvXOG5uh8Qzgdyjz6U1qg6DHhMAvXZOUStIj6X5t4/ufFgR8i3fjf0bMAw==\n"
        "CA: fixed:r:sha1:1ak1ymbmsfx7z8kh09jzkr3a4dvkrfjw\n"
    ),
    "regrrr_0.1.3.tar.gz": (
        "StorePath: /nix/store/0z91agv7vjamx6cwpclf21mivxqwarba-regrrr_0.1.3.tar.gz\n"
        "URL: nar/0az0hgski6fnc82ap93xn2i9bylffmadhwqqai1ribk2r3qw2wyh.nar.xz\n"
        "Compression: xz\n"
        "FileHash: sha256:0az0hgski6fnc82ap93xn2i9bylffmadhwqqai1ribk2r3qw2wyh\n"
        "FileSize: 17044\n"
        "NarHash: sha256:1i5nv0bpwc5p4ah7vs47sr47x64ykwmxmrpkifrdws6p7sgmp4z1\n"
        "NarSize: 16984\n"
        "References: \n"
        "Deriver: axjy0mm80rqr4mm5q44sy3pqxdhva5ji-regrrr_0.1.3.tar.gz.drv\n"
        "Sig: cache.nixos.org-1:wd19c1imul0LPXb4FQwWh79OrZTwfx5BLgxvO8/c02ms7xXJ6+Q2PMMn+umNEKz0FvCIojmhT7CrQwQBuxTxAQ==\n"
        "CA: fixed:sha256:1ih27mgqfzjlas97rvj18s8j3p0bpwb03vr71yrq776vzv1v6fcs\n"
    ),
    "docbook2X-0.8.8.tar.gz.drv": (
        "StorePath: /nix/store/s4mcg8jhhm55k3zyblpjabmcavi7403k-docbook2X-0.8.8.tar.gz.drv\n"
        "URL: nar/0lvk6wyrcam7bbhn4c2vnl3z0pfb0ij0b2dyv1lr4w8mm298pvfc.nar.xz\n"
        "Compression: xz\n"
        "FileHash: sha256:0lvk6wyrcam7bbhn4c2vnl3z0pfb0ij0b2dyv1lr4w8mm298pvfc\n"
        "FileSize: 1308\n"
        "NarHash: sha256:0mscw97zbwwnygxg25qm4kxzncl1bzr244dcikbp2krdhy5abffh\n"
        "NarSize: 3024\n"
        "References: 43shw2f4xz1yj7cpyazcqa5895zwwbic-curl-8.1.1.drv 48ax6lwv7vh54q7nf55zmga80fybc1mj-mirrors-list.drv 57620l1168piiia2bmmsxxhh7sjb2n40-builder.sh mcjbr0j20q0sj5a31d3acmxgjabb5xs6-bash-5.2-p15.drv r4p6d7r1shc9rhpsida71gl4c3sgxzcf-stdenv-linux.drv\n"
        "Sig: cache.nixos.org-1:89/mIVpCW9RbZnxHqXPYp4l2UbJV9zzkAdF01Xa4aHIBqHUKzrHG4x3Uxn7vKTRy2oJ77cke87Mevov7jlCWAw==\n"
        "CA: text:sha256:0p8wjixkbg49jadn3iygq7a8pa126id83y7f6qh9hlslkvxm56i8\n"
    ),
    "source": (
        "StorePath: /nix/store/vlapfq163ddwdcn2smfk31x6fs0c9jh6-source\n"
        "URL: nar/1asncm54lyva8c3avi3g76pn6cdsc19n6rmg9sfaky8cjbdmnk7x.nar.xz\n"
        "Compression: xz\n"
        "FileHash: sha256:1asncm54lyva8c3avi3g76pn6cdsc19n6rmg9sfaky8cjbdmnk7x\n"
        "FileSize: 6615828\n"
        "NarHash: sha256:0gkkhap0ljzw750z2ypjr87n4mhinv07flvcshvi9l4jlqs2w1bc\n"
        "NarSize: 9936584\n"
        "References: \n"
        "Deriver: by3hkyrwyinabq75qpp6sn0p32zck57g-source.drv\n"
        "Sig: cache.nixos.org-1:kyeHeMcGiMnMnQ8vi72hmHC0TgeSUhlMFf44Yr40GFreavrahF3kKEHeDplIcgffuKDrtlwZyj9kuryLIRjiBw==\n"
        "CA: fixed:r:sha256:0gkkhap0ljzw750z2ypjr87n4mhinv07flvcshvi9l4jlqs2w1bc\n"
    ),
    "gcc-3.4.6": (
        "StorePath: /nix/store/xi429w4ddvb1r77978hm7jfb2jsn559r-gcc-3.4.6\n"
        "URL: nar/1hr09cgkyw1hcsfkv5qp5jlpmf2mqrkrqs3xj5zklq9c1h9544ff.nar.bz2\n"
        "Compression: bzip2\n"
        "FileHash: sha256:1hr09cgkyw1hcsfkv5qp5jlpmf2mqrkrqs3xj5zklq9c1h9544ff\n"
        "FileSize: 4006\n"
        "NarHash: sha256:0ik9mpqxpd9hv325hdblj2nawqj5w7951qdyy8ikxgwr6fq7m11c\n"
        "NarSize: 21264\n"
        "References: a8922c0h87iilxzzvwn2hmv8x210aqb9-glibc-2.7 7w2acjgalb0cm7b3bg8yswza4l7iil9y-binutils-2.18 mm631h09mj964hm9q04l5fd8vw12j1mm-bash-3.2-p39 nx2zs2qd6snfcpzw4a0jnh26z9m0yihz-gcc-3.4.6 xi429w4ddvb1r77978hm7jfb2jsn559r-gcc-3.4.6\n"
        "Deriver: 2dzpn70c1hawczwhg9aavqk18zp9zsva-gcc-3.4.6.drv\n"
        "Sig: cache.nixos.org-1:o1DTsjCz0PofLJ216P2RBuSulI8BAb6zHxWE4N+tzlcELk5Uk/GO2SCxWTRN5wJutLZZ+cHTMdWqOHF88KGQDg==\n"
    ),
    "perl-HTTP-Cookies-6.01": (
        "StorePath: /nix/store/0vpqfxbkx0ffrnhbws6g9qwhmliksz7f-perl-HTTP-Cookies-6.01\n"
        "URL: nar/1rv1m9inydm1r4krw8hmwg1hs86d0nxddd1pbhihx7l7fycjvfk3.nar.xz\n"
        "Compression: xz\n"
        "FileHash: sha256:1rv1m9inydm1r4krw8hmwg1hs86d0nxddd1pbhihx7l7fycjvfk3\n"
        "FileSize: 19912\n"
        "NarHash: sha256:60adfd293a4d81ad7cd7e47263cbb3fc846309ef91b154a08ba672b558f94ff3\n"
        "NarSize: 45840\n"
        "References: 0vpqfxbkx0ffrnhbws6g9qwhmliksz7f-perl-HTTP-Cookies-6.01 9vrhbib2lxd9pjlg6fnl5b82gblidrcr-perl-HTTP-Message-6.06 wy20zslqxzxxfpzzk0rajh41d7a6mlnf-perl-HTTP-Date-6.02\n"
        "Deriver: fb4ihlq3psnsjq95mvvs49rwpplpc8zj-perl-HTTP-Cookies-6.01.drv\n"
        "Sig: cache.nixos.org-1:HhaiY36Uk3XV1JGe9d9xHnzAapqJXprU1YZZzSzxE97jCuO5RR7vlG2kF7MSC5thwRyxAtdghdSz3AqFi+QSCw==\n"
    ),
    "net-tools-1.60_p20170221182432": (
        "StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432\n"
        "URL: nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz\n"
        "Compression: xz\n"
        "FileHash: sha256:1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d\n"
        "FileSize: 114980\n"
        "NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6\n"
        "NarSize: 464152\n"
        "References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27\n"
        "Deriver: unknown-deriver\n"
        "Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==\n"
        "Sig: hydra.other.net-1:JXQ3Z/PXf0EZSFkFioa4FbyYpbbTbHlFBtZf4VqU0tuMTWzhMD7p9Q7acJjLn3jofOtilAAwRILKIfVuyrbjAA==\n"
    ),
}
"""Published by cache.nixos.org, by name of the store path."""

CURL_FINGERPRINT = "1;/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin;sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0;196040;/nix/store/0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0,/nix/store/6w8g7njm4mck5dmjxws0z1xnrxvl81xa-glibc-2.34-115,/nix/store/j5jxw3iy7bbz4a57fh9g2xm2gxmyal8h-zlib-1.2.12,/nix/store/yxvjs9drzsphm9pcf42a4byzj1kb9m7k-openssl-1.1.1n"

CACHE_NIXOS_ORG = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
TEST1 = "test1:tLAEn+EeaBUJYqEpTd2yeerr7Ic6+0vWe+aXL/vYUpE="
"""Who signed the real documents; the latter the one of curl only, as a second."""

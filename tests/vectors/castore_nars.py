"""NARs of the castore fixtures, their store paths, and the chunk records of chunked blobs; see PROVENANCE.md."""

from __future__ import annotations

from vectors.nar import TREES, Dir, File, Link, Tree

X_DEMO = Dir({b"sub": TREES["complicated"], b"hello": File(b"Hello World!", executable=True)})

NARS: dict[str, tuple[Tree, int, str]] = {
    "symlink": (
        Link(b"/nix/store/somewhereelse"),
        136,
        "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1",
    ),
    "helloworld": (
        File(b"Hello World!"),
        128,
        "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040",
    ),
    "complicated": (
        TREES["complicated"],
        840,
        "ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a",
    ),
    "empty directory": (Dir({}), 96, "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a"),
    "byte 01": (File(b"\x01"), 120, "730850a811259dbf3a68dc2ee87a79aa6cae9f71375edf396f9d7a91fbe9134d"),
    "demo": (X_DEMO, 1240, "2726ea52afd4070fdc8768df3635331f79e5f60ba65700d1efb7431882c125df"),
}

STORE_PATHS = {
    ("symlink", "symlink"): "11i0w7x0adl6iyydsilpl0nc8v1zc2m4-symlink",
    ("helloworld", "helloworld"): "vf9s1dz1a2nbnnilsxnaa3ri1c0m9kwg-helloworld",
    ("complicated", "complicated"): "pngqdzggfqs4q7fg6iywqnlzcgsp85qr-complicated",
    ("demo", "demo"): "ll6lsj1wsxk7fxh1j0ksdx0nsrlajqk6-demo",
    ("helloworld", "test"): "7nn1mg7sbg5c7rs9nzcfks9almxk6m5x-test",
    ("symlink", "test"): "f1dbqnj508kha3429mvy2h6dwcqbr31v-test",
    ("empty directory", "test"): "5mdfnlrv8zpnc25i15vzv4c3d3hh0bzh-test",
    ("complicated", "test"): "4jagc832b703jlcbarhzgf6m4yxp3hj1-test",
}
"""By fixture and name."""

BLOB_B_RECORD = (
    "12260a2079445f0f1420045f8be59af5f7915cfd9182c978ece11a21913641e457fa9794108080201226"
    "0a20832c7fbdbe9a537273cfe0299195a09ba7d08b6da842ab25fea373d739e9c5ac1080e01f"
)

ZEROS_RECORD = (
    "12260a20934d6b7aea5a339a9e858430cca7ac455d3537e70fd2b302931cc93b25e1df9a1080802012260a20934d6b7aea5a339a9e8584"
    "30cca7ac455d3537e70fd2b302931cc93b25e1df9a1080802012240a202d3adedff11b61f14c886e35afa036736dcd87a74d27b5c15102"
    "25d0f592e2131001"
)

X_S_RECORD_SHA256 = "60c4ba9cf33b6f23927cd5267b41fce7e56c18b2cde6a160985b9da92c3e48fc"
"""Of the 440 bytes of the record of X_S(3145728)."""

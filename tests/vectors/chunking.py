"""Where FastCDC cuts: inputs that are made from a rule, lengths of their chunks, digests of some. See PROVENANCE.md."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

BLOB_B = bytes(range(255)) * 4096


def stream(size: int) -> bytes:
    """X_S: the first ``size`` bytes of SHA-256(0) SHA-256(1) ..., the counter as 8 bytes big endian."""
    blocks = (hashlib.sha256(counter.to_bytes(8)).digest() for counter in range(-(-size // 32)))
    return b"".join(blocks)[:size]


STREAM_DIGEST = "bb98ccc6ea1891617652f19618bc6a35760afbad70bd3faa94e40aec0065df6e"
"""BLAKE3 of X_S(3145728)."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One row: data, the average size, lengths, and BLAKE3 of chunks by their index."""

    data: bytes
    average: int
    lengths: tuple[int, ...]
    digests: dict[int, str]


CUTS = {
    "BLOB_B": Cut(
        BLOB_B,
        262144,
        (524288, 520192),
        {
            0: "79445f0f1420045f8be59af5f7915cfd9182c978ece11a21913641e457fa9794",
            1: "832c7fbdbe9a537273cfe0299195a09ba7d08b6da842ab25fea373d739e9c5ac",
        },
    ),
    "BLOB_B_1024": Cut(
        BLOB_B,
        1024,
        (1130, *([1275] * 818), 400),
        {
            0: "0abfc39ca21da1f566395b17434064716c0df63d6fe93c961bc2e1718af7f5b3",
            **dict.fromkeys(range(1, 819), "6e046c25f016f4fe86a1663c5bff6f97cd8617411ca9a65024e220fcc1bb0592"),
            819: "00d7d8c60c21348feaa8a9ecf506f689b9eb5212ebb3f2aeece0567ed3cdb07c",
        },
    ),
    "X_S_3145728": Cut(
        stream(3145728),
        262144,
        (300369, 280185, 223385, 205363, 321680, 319739, 315571, 313612, 277184, 287192, 301448),
        dict(
            enumerate(
                (
                    "71e7da987fa54f2c94d96a391fa206b25332cb84fa367c0b5a1dba145c2f2b8c",
                    "4e6bd4f8fd5d850722e45768cd9d5d0581a8c639073d4d1f922aa00400f4609c",
                    "5bdb7c1eade45caf0557cf2fe608add8fdd81e3b66497954c9d845118beec8a6",
                    "9bf9bcd95a29de58f2d5ce2f8cdef55fb1d8240feff4a1a4c77779e4d54ad403",
                    "f51e2e47e2330459ce6a33ca99204f93255a3a44149ca6cdd05916b47728f64f",
                    "c712f80f5c8a1857395064dae57dff40bc1196259f856f7ec9ffbc900b8a50b5",
                    "016227d539ad716dc1deee1adee881e90b922a8ed1ba48adf050f973101d7f1c",
                    "c7794b278f1082802879e600b1a668101119ffbd45ce6b0e48ee55270f896c7c",
                    "331105bbb1c67799d52de9dbd94f431932066a1e3c8d8ce9b73cbdd4cd61faf1",
                    "c3f942f24372fdfecff6d3a8867ca2629f72c6a9390bb848104a013ca39c5b03",
                    "d3cb87e86769368f898e49b2a86d50492fc3a4f2d303818c3feac33eb3beb470",
                )
            )
        ),
    ),
    "X_S_1048576": Cut(stream(1048576), 262144, (300369, 280185, 223385, 205363, 39274), {}),
    "X_S_1048576_100000": Cut(
        stream(1048576),
        100000,
        (200000, 100369, 56506, 136635, 87044, 91049, 132336, 200000, 44637),
        {},
    ),
    "X_S_65536_1024": Cut(
        stream(65536),
        1024,
        (
            1516,
            2048,
            1049,
            2048,
            600,
            1138,
            1438,
            2048,
            1063,
            577,
            773,
            1133,
            751,
            2048,
            1414,
            1828,
            2048,
            1441,
            1058,
            798,
            2048,
            588,
            1436,
            1470,
            562,
            1225,
            863,
            1170,
            2048,
            1167,
            577,
            991,
            919,
            1166,
            1186,
            1252,
            1102,
            1115,
            1027,
            1027,
            842,
            1094,
            2048,
            1873,
            1215,
            650,
            1319,
            1090,
            1490,
            680,
            1051,
            1126,
            1208,
            94,
        ),
        {},
    ),
    "ZEROS": Cut(
        bytes(1048577),
        262144,
        (524288, 524288, 1),
        {
            0: "934d6b7aea5a339a9e858430cca7ac455d3537e70fd2b302931cc93b25e1df9a",
            1: "934d6b7aea5a339a9e858430cca7ac455d3537e70fd2b302931cc93b25e1df9a",
            2: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        },
    ),
    "X_S_131072": Cut(stream(131072), 262144, (131072,), {}),
    "X_S_131073": Cut(stream(131073), 262144, (131073,), {}),
    "X_S_262144": Cut(stream(262144), 262144, (262144,), {}),
}

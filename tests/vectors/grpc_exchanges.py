"""Requests and their answers, as bytes on the wire; spec/vectors-castore.md section 11. The same in both dialects.

They are sent in their order to a store that holds only what earlier ones put, and DIRECTORY_COMPLICATED's own blob,
the empty one, which is always there.
"""

from typing import NamedTuple

HELLOWORLD = "0a205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c"
SYMLINK_NODE = "1a1a12182f6e69782f73746f72652f736f6d657768657265656c7365"
HELLOWORLD_NODE = "12241220" + HELLOWORLD[4:] + "180c"
WITH_KEEP = "122b0a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
COMPLICATED_NODE = "0a241220424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb1808"


class Exchange(NamedTuple):
    """One call: a method, the messages sent, the messages answered, all in hexadecimal."""

    label: str
    service: str
    method: str
    requests: list[str]
    responses: list[str]


EXCHANGES = [
    Exchange("put", "castore.v1.BlobService", "Put", ["0a0c48656c6c6f20576f726c6421"], [HELLOWORLD]),
    Exchange("stat", "castore.v1.BlobService", "Stat", [HELLOWORLD], [""]),
    Exchange("stat with chunks", "castore.v1.BlobService", "Stat", [HELLOWORLD + "1001"], [""]),
    Exchange("read", "castore.v1.BlobService", "Read", [HELLOWORLD], ["0a0c48656c6c6f20576f726c6421"]),
    Exchange("NAR of a file", "store.v1.PathInfoService", "CalculateNAR", [HELLOWORLD_NODE], [
        "088001122003e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"
    ]),
    Exchange("NAR of a symlink", "store.v1.PathInfoService", "CalculateNAR", [SYMLINK_NODE], [
        "0888011220097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"
    ]),
    Exchange("NAR of a tree", "store.v1.PathInfoService", "CalculateNAR", [COMPLICATED_NODE], [
        "08c8061220ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"
    ]),
]  # fmt: skip

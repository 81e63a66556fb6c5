"""Samples from the corpus, damaged: what the fuzz targets are fed with.

Each target is an ordinary test that runs a bounded number of examples, the same ones each time unless asked for more:
``FUZZ_EXAMPLES=100000 pytest tests/fuzz --timeout 7200``. What a run finds is added to the corpus as a file of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["cuts", "damaged", "fuzzing", "mutants", "named_samples", "pieces_of", "samples"]

CORPUS = Path(__file__).with_name("corpus")

_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))

fuzzing = settings(
    max_examples=_EXAMPLES or 300,
    derandomize=not _EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def named_samples(kind: str) -> dict[str, bytes]:
    """The files of one kind by their names, in the order of these."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / kind).iterdir())}


def samples(kind: str) -> list[bytes]:
    """The files of one kind, in the order of their names."""
    return list(named_samples(kind).values())


_places = st.floats(0, 1, exclude_max=True)  # in a sample, so that all of a long one is as likely
_edits = st.one_of(
    st.tuples(st.just("set"), _places, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("flip"), _places, st.integers(0, 7).map(lambda bit: bytes((1 << bit,)))),
    st.tuples(st.just("insert"), _places, st.binary(min_size=1, max_size=24)),
    st.tuples(st.just("delete"), _places, st.integers(1, 40).map(bytes)),
    st.tuples(st.just("repeat"), _places, st.integers(1, 200).map(bytes)),
    st.tuples(st.just("truncate"), _places, st.just(b"")),
    st.tuples(st.just("append"), _places, st.binary(min_size=1, max_size=40)),
)
_printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=8).map(str.encode)
_edits_of_text = st.tuples(st.sampled_from(["set", "insert"]), _places, _printable)


def _edited(data: bytes, edits: Sequence[tuple[str, float, bytes]]) -> bytes:
    for what, place, argument in edits:
        at = int(place * len(data))
        n_bytes = len(argument)
        match what:
            case "set":
                data = data[:at] + argument + data[at + n_bytes :]
            case "flip":
                data = data[:at] + bytes(byte ^ argument[0] for byte in data[at : at + 1]) + data[at + 1 :]
            case "insert":
                data = data[:at] + argument + data[at:]
            case "delete":
                data = data[:at] + data[at + n_bytes :]
            case "repeat":
                data = data[: at + n_bytes] + data[at:]
            case "truncate":
                data = data[:at]
            case "append":
                data = data + argument
    return data


def damaged(kind: str, words: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """A sample of this kind with up to four edits, or two of them spliced.

    Args:
        kind: Which folder of the corpus.
        words: Of text, what is inserted as well, since chance would hardly ever find it.
    """
    sample = st.sampled_from(samples(kind))
    spliced = st.builds(
        lambda a, b, i, j: a[: int(i * len(a))] + b[int(j * len(b)) :], sample, sample, _places, _places
    )
    edits = _edits
    if words:
        edits |= _edits_of_text | st.tuples(st.just("insert"), _places, st.sampled_from(words))
    return st.builds(_edited, sample | spliced, st.lists(edits, max_size=4))


def mutants(kind: str, seed: int = 0) -> Iterator[bytes]:
    """Samples of this kind with a few edits each, without an end, for many rounds that hypothesis has no part in."""
    random = Random(seed)
    originals = samples(kind)
    while True:
        edits = []
        for _ in range(random.randrange(4)):
            what = random.choice(["set", "flip", "insert", "delete", "repeat", "truncate", "append"])
            argument = bytes((1 << random.randrange(8),)) if what == "flip" else random.randbytes(random.randint(1, 24))
            edits.append((what, random.random(), argument))
        yield _edited(random.choice(originals), edits)


cuts = st.lists(_places, max_size=6)


def pieces_of(data: bytes, places: Sequence[float]) -> list[bytes]:
    """``data`` cut at these places; some pieces may be empty."""
    ends = [*sorted(int(place * len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]

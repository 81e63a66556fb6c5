"""One store asks another which of its services has what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from plugins.grpc.loopback import connected, memory_services
from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject, Unsupported
from tvix_store.explain import Answer, Explainer, Explanation, Presence
from tvix_store.proto.tvix_store.explain.v1 import explain_pb2 as messages
from tvix_store_grpc.explain import GrpcExplainer

pytestmark = pytest.mark.anyio

DIGEST = B3Digest.of(b"hello")
ANSWERS = (
    Answer("[blobservices.root]", "cache", Presence.PRESENT),
    Answer("[blobservices.root] near", "memory", Presence.ABSENT),
    Answer("[blobservices.far]", "grpc", Presence.UNKNOWN, "Unavailable: at /srv/a"),
    Answer("[blobservices.x]", "fs", Presence.PRESENT, would_serve=True),
)


class Recorded(Explainer):
    def __init__(self) -> None:
        self.asked: list[B3Digest | bytes] = []

    async def explain(self, key: B3Digest | bytes) -> Sequence[Explanation]:
        self.asked.append(key)
        return [Explanation("blob", "x", ANSWERS), Explanation("directory", "y", [])]


@pytest.mark.parametrize("key", [DIGEST, bytes(20)])
async def test_answers_come_as_they_are(key: B3Digest | bytes) -> None:
    explainer = Recorded()
    async with connected(replace(memory_services(), explainer=explainer)) as peer:
        explanations = await GrpcExplainer(peer).explain(key)
    assert explainer.asked == [key]
    assert explanations == [Explanation("blob", "x", list(ANSWERS)), Explanation("directory", "y", [])]


async def test_strangers_are_not_told_what_went_wrong() -> None:
    async with connected(replace(memory_services(), explainer=Recorded()), "0.0.0.0:0") as peer:
        (blobs, _) = await GrpcExplainer(peer).explain(DIGEST)
    assert list(blobs.answers) == [replace(answer, note="") for answer in ANSWERS]


async def test_a_store_without_it_is_named() -> None:
    async with connected(memory_services()) as peer:
        with pytest.raises(Unsupported, match=f"^{re.escape(peer.name)} does not explain itself: it is older, or "):
            await GrpcExplainer(peer).explain(DIGEST)


@pytest.mark.parametrize(
    "request_",
    [messages.ExplainRequest(), messages.ExplainRequest(digest=b"x"), messages.ExplainRequest(output_hash=b"")],
)
async def test_a_request_that_names_no_object_is_refused(request_: messages.ExplainRequest) -> None:
    async with connected(replace(memory_services(), explainer=Recorded())) as peer:
        with pytest.raises(InvalidObject):
            await peer.unary("/tvix_store.explain.v1.ExplainService/Explain", request_, "it")

"""Asks another store which of its services has what."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.digest import B3Digest
from tvix_store.errors import Unsupported
from tvix_store.explain import Answer, Explainer, Explanation, Presence
from tvix_store.proto.tvix_store.explain.v1 import explain_pb2 as messages
from tvix_store_grpc.channel import Peer

__all__ = ["GrpcExplainer"]

_EXPLAIN = "/tvix_store.explain.v1.ExplainService/Explain"
_PRESENCES = {messages.Answer.PRESENT: Presence.PRESENT, messages.Answer.ABSENT: Presence.ABSENT}


class GrpcExplainer(Explainer):
    """Lets another store explain itself.

    Args:
        peer: The connection; whoever made it closes it.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def explain(self, key: B3Digest | bytes) -> Sequence[Explanation]:
        if isinstance(key, B3Digest):
            what, request = str(key), messages.ExplainRequest(digest=key.raw)
        else:
            what, request = f"path info {key.hex()}", messages.ExplainRequest(output_hash=key)
        try:
            raw = await self._peer.unary(_EXPLAIN, request, what)
        except Unsupported as exc:
            if type(exc) is not Unsupported:
                raise
            raise Unsupported(f"{self._peer.name} does not explain itself: it is older, or another program") from exc
        response = self._peer.decode(messages.ExplainResponse, raw, what)
        return [_explanation(explanation) for explanation in response.explanations]


def _explanation(explanation: messages.Explanation) -> Explanation:
    return Explanation(explanation.kind, explanation.name, [_answer(answer) for answer in explanation.answers])


def _answer(answer: messages.Answer) -> Answer:
    presence = _PRESENCES.get(answer.presence, Presence.UNKNOWN)
    return Answer(answer.entry, answer.type, presence, answer.note, answer.would_serve)

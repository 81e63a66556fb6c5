"""ExplainService, served: which of the services behind this store has what."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.digest import B3Digest
from tvix_store.explain import Answer, Explainer, Explanation, Presence
from tvix_store.proto.tvix_store.explain.v1 import explain_pb2 as messages
from tvix_store_grpc.server.blob import digest_from
from tvix_store_grpc.server.calls import Method, Refusal, Unary
from tvix_store_grpc.server.path_info import output_hash_from

__all__ = ["SERVICE_NAME", "ExplainHandlers"]

SERVICE_NAME = "tvix_store.explain.v1.ExplainService"

_PRESENCES = {
    Presence.PRESENT: messages.Answer.PRESENT,
    Presence.ABSENT: messages.Answer.ABSENT,
    Presence.UNKNOWN: messages.Answer.UNKNOWN,
}


class ExplainHandlers:
    """The methods of ExplainService.

    Args:
        explainer: Knows the composition.
        has_notes: Whether to tell what services say went wrong, which may have addresses and paths in it.
    """

    def __init__(self, explainer: Explainer, *, has_notes: bool) -> None:
        self._explainer = explainer
        self._has_notes = has_notes

    def methods(self) -> Sequence[Method]:
        """The methods."""
        return (Unary("Explain", messages.ExplainRequest.FromString, self.explain),)

    async def explain(self, request: messages.ExplainRequest) -> messages.ExplainResponse:
        """Ask for the object that the request names."""
        explanations = await self._explainer.explain(_key(request))
        return messages.ExplainResponse(explanations=[self._explanation(explanation) for explanation in explanations])

    def _explanation(self, explanation: Explanation) -> messages.Explanation:
        answers = [self._answer(answer) for answer in explanation.answers]
        return messages.Explanation(kind=explanation.kind, name=explanation.name, answers=answers)

    def _answer(self, answer: Answer) -> messages.Answer:
        return messages.Answer(
            entry=answer.entry,
            type=answer.type,
            presence=_PRESENCES[answer.presence],
            note=answer.note if self._has_notes else "",
            would_serve=answer.would_serve,
        )


def _key(request: messages.ExplainRequest) -> B3Digest | bytes:
    match request.WhichOneof("what"):
        case "digest":
            return digest_from(request.digest)
        case "output_hash":
            return output_hash_from(request.output_hash)
    raise Refusal("INVALID_ARGUMENT", "neither a digest nor the hash of a store path")

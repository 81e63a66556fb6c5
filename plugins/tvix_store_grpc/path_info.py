"""A path info service that lives in another process, and the NAR calculation beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject
from tvix_store.explain import Explainer
from tvix_store.nar_calculation import NarCalculationService, NarDigest
from tvix_store.nodes import Node
from tvix_store.path_info import NAR_SHA256_BYTES, PathInfo, PathInfoService
from tvix_store.proto.tvix.store.protos.rpc_pathinfo_pb2 import (
    CalculateNARResponse,
    GetPathInfoRequest,
    ListPathInfoRequest,
)
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2 as batch
from tvix_store.wire import decode_path_info, encode_path_info, node_to_message, path_info_to_message
from tvix_store_grpc.channel import PATH_INFOS, Absent, Peer, Speech
from tvix_store_grpc.explain import GrpcExplainer
from tvix_store_grpc.messages import cut, repeated
from tvix_store_grpc.streams import closing
from tvix_store_grpc.upload import Upload

__all__ = ["GrpcNarCalculation", "GrpcPathInfoService"]


class GrpcPathInfoService(PathInfoService):
    """Path infos of another store, over gRPC.

    Args:
        name: Of the entry.
        peer: The connection; whoever made it closes it.
    """

    def __init__(self, name: str, peer: Peer) -> None:
        self.name = name
        self._peer = peer

    @property
    def capabilities(self) -> Capabilities:
        """What the peer said; before it was asked, and if it has no batches, that it lists: the protocols have that."""
        described = self._peer.described
        return Capabilities(list=True) if described is None else described.path_infos

    async def get(self, digest: bytes) -> PathInfo | None:
        speech = await self._peer.speech()
        what = f"path info {digest.hex()}"
        try:
            raw = await self._peer.unary(
                speech.path(PATH_INFOS, "Get"), GetPathInfoRequest(by_output_hash=digest), what
            )
        except Absent:
            return None
        return self._decoded(raw, what)

    def _decoded(self, raw: bytes, what: str) -> PathInfo:
        path_info: PathInfo = self._peer.parse(decode_path_info, raw, what)
        return path_info

    async def put(self, path_info: PathInfo) -> PathInfo:
        speech = await self._peer.speech()
        what = f"path info {path_info.store_path}"
        raw = await self._peer.unary(speech.path(PATH_INFOS, "Put"), path_info_to_message(path_info), what)
        return self._decoded(raw, what)

    async def get_many(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        extension = (await self._peer.speech()).extension
        if extension is None:
            return await super().get_many(digests)
        found: list[PathInfo | None] = []
        for start in range(0, len(digests), extension.max_count):
            found += await self._get_batch(digests[start : start + extension.max_count])
        return found

    async def _get_batch(self, digests: Sequence[bytes]) -> Sequence[PathInfo | None]:
        what = f"{len(digests)} path infos"
        request = batch.PathInfoKeys(output_hashes=digests)
        found: list[PathInfo | None] = []
        async with closing(self._peer.download(Speech.batch_path("GetPathInfos"), request, what)) as messages:
            async for raw in messages:
                slots = self._peer.decode(batch.PathInfoBatch, raw, what).slots
                if len(found) + len(slots) > len(digests):
                    raise CorruptObject(f"{self._peer.name}: {what}: more answers than that")
                for slot in slots:
                    found.append(self._decoded(slot.encoded, what) if slot.HasField("encoded") else None)
        if len(found) != len(digests):
            raise CorruptObject(f"{self._peer.name}: {what}: only {len(found)} answers")
        return found

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        extension = (await self._peer.speech()).extension
        if extension is None:
            return await super().put_many(path_infos)
        encoded = [encode_path_info(path_info) for path_info in path_infos]
        stored: list[PathInfo] = []
        for run in cut(encoded, map(len, encoded), extension.max_bytes, extension.max_count):
            stored += await self._put_batch(run)
        return stored

    async def _put_batch(self, encoded: Sequence[bytes]) -> Sequence[PathInfo]:
        what = f"{len(encoded)} path infos"
        stored: list[PathInfo] = []
        async with Upload(self._peer, Speech.batch_path("PutPathInfos"), what, responses=True) as upload:
            await upload.send_all(map(repeated, cut(encoded, map(len, encoded))))
            async with closing(upload.finish_many()) as messages:
                async for raw in messages:
                    answers = self._peer.decode(batch.EncodedPathInfos, raw, what).encoded
                    if len(stored) + len(answers) > len(encoded):
                        raise CorruptObject(f"{self._peer.name}: {what}: more answers than that")
                    stored.extend(self._decoded(answer, what) for answer in answers)
        if len(stored) != len(encoded):
            raise CorruptObject(f"{self._peer.name}: {what}: only {len(stored)} answers")
        return stored

    async def list(self) -> AsyncIterator[PathInfo]:
        speech = await self._peer.speech()
        path = speech.path(PATH_INFOS, "List")
        async with closing(self._peer.download(path, ListPathInfoRequest(), "list")) as messages:
            async for raw in messages:
                yield self._decoded(raw, "list")

    def nar_calculation(self) -> NarCalculationService:
        return GrpcNarCalculation(self._peer)

    def explainer(self) -> Explainer:
        return GrpcExplainer(self._peer)


class GrpcNarCalculation(NarCalculationService):
    """Lets another store calculate NARs of what it holds.

    Args:
        peer: The connection; whoever made it closes it.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def calculate_nar(self, node: Node) -> NarDigest:
        speech = await self._peer.speech()
        what = "NAR calculation"
        raw = await self._peer.unary(speech.path(PATH_INFOS, "CalculateNAR"), node_to_message(node), what)
        answer = self._peer.decode(CalculateNARResponse, raw, what)
        if len(answer.nar_sha256) != NAR_SHA256_BYTES:
            raise CorruptObject(f"{self._peer.name}: {what}: a SHA-256 of {len(answer.nar_sha256)} bytes")
        return NarDigest(answer.nar_size, answer.nar_sha256)

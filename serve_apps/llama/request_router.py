"""How Ray Serve chooses the replica of a request: the one with the least to do for it; see `warmth`."""

from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from llama_platform.inference.protocol import GenerationRequest
from serve_apps.llama.warmth import Warmth, page_chain


class WarmRouter(RequestRouter):  # type: ignore[misc]  # Ray has no types
    """One lives in each ingress replica, in the event loop of Serve's router; nothing is asked of another process."""

    def initialize_state(self, running: int, pages: int, adapters: int) -> None:
        """Begin without knowing what replicas hold; Serve calls this with the deployment's arguments.

        Args:
            running: requests that a replica answers at the same time.
            pages: pages of a replica's prefix cache.
            adapters: adapters that a replica has room for.
        """
        self._warmth = Warmth(running, pages, adapters)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take note of replicas that have come, gone, or reported what they hold."""
        super().update_replicas(replicas)
        self._warmth.keep({replica.replica_id.unique_id for replica in replicas})
        for replica in replicas:
            if (held := replica.routing_stats.get("adapters")) is not None:
                self._warmth.report(replica.replica_id.unique_id, held)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas in the order in which they are tried."""
        named = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        loads = {name: self.replica_queue_len_cache.get(replica.replica_id) or 0 for name, replica in named.items()}
        requests, digest = _asked(pending_request)
        if not requests:
            return [[named[name]] for name in sorted(loads, key=loads.__getitem__)]
        prompt = requests[0].prompt_ids
        ranked = self._warmth.ranked(page_chain(prompt, digest), len(prompt), digest, loads)
        return [[named[name]] for name in ranked]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Take note of what a replica was sent."""
        requests, digest = _asked(pending_request)
        for prompt in {request.prompt_ids for request in requests}:
            self._warmth.sent(replica_id.unique_id, page_chain(prompt, digest), digest)


def _asked(pending: PendingRequest | None) -> tuple[Sequence[GenerationRequest], str | None]:
    """Return (requests, digest of their adapter) of a call of `LlamaDeployment.generate`; none for another call."""
    if pending is None or pending.metadata.call_method != "generate" or len(pending.args) != 2:
        return (), None
    requests, adapter = pending.args
    return requests, adapter.digest if adapter is not None else None

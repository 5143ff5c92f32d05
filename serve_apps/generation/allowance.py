"""Allowance: what one request may use of its key's and tenant's quotas, and what it has used."""

from llama_platform.access.keys import Caller
from llama_platform.access.meter import Meter, Reservation
from llama_platform.access.quotas import Holder, Quotas, Standing
from llama_platform.inference.protocol import Usage


class Allowance:
    """Of one HTTP request."""

    def __init__(self, meter: Meter, caller: Caller, of_tenant: Quotas, cached_weight: float = 1) -> None:
        """Begin with nothing used.

        Args:
            meter: counts what is used.
            caller: whose key the request came with.
            of_tenant: quotas of all keys of its tenant together.
            cached_weight: how much of a token a prompt's token counts that was found in the cache.
        """
        self._meter, self._cached_weight = meter, cached_weight
        self._reservation = Reservation(
            (Holder("key", caller.key, caller.limits), Holder("tenant", caller.tenant, of_tenant))
        )
        self._used = 0.0

    async def admit(self) -> None:
        """Count the request.

        Raises:
            LimitError: a quota of requests is used up.
            UnavailableError: requests cannot be counted, and are refused then.
        """
        await self._meter.admit(self._reservation)

    async def reserve(self, tokens: int) -> None:
        """Reserve the tokens that prompt and answer may have.

        Raises:
            InputError: they are more than a quota allows at all.
            LimitError: a quota of tokens is used up.
            UnavailableError: tokens cannot be counted, and requests are refused then.
        """
        await self._meter.reserve(self._reservation, tokens)

    def use(self, usage: Usage) -> None:
        """Count the tokens of an answer that has ended."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        self._used += usage.prompt_tokens - cached * (1 - self._cached_weight) + usage.completion_tokens

    async def close(self) -> None:
        """Settle what was reserved to what was used."""
        await self._meter.settle(self._reservation, round(self._used))

    def standings(self) -> list[Standing]:
        """Return how much of each quota is left; of a quota that key and tenant have, the one with less left."""
        nearest: dict[str, Standing] = {}
        for standing in self._reservation.standings.values():
            if standing.quota not in nearest or standing.left < nearest[standing.quota].left:
                nearest[standing.quota] = standing
        return list(nearest.values())

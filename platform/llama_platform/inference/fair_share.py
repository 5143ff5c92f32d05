"""FairShare: whose turn it is, by virtual token counters.

Sheng et al., «Fairness in Serving Large Language Models», OSDI 2024.

Each tenant's counter grows with the tokens that are computed for it, divided by its weight; the tenant with the lowest
counter is next. Who comes back from idleness starts at the lowest counter of the active ones: nobody saves up turns.
"""

from collections import Counter

PROMPT_COST = 1.0
"""Of a prompt's token that is computed; one that the cache holds costs nothing."""
ANSWER_COST = 2.0
"""Of a generated token, which takes a step of its own."""


class FairShare:
    """The counters of one engine."""

    def __init__(self) -> None:
        """Begin without tenants."""
        self._used: dict[str, float] = {}
        self._active: Counter[str] = Counter()
        self._last = 0.0
        """Counter of the tenant that was the last to become idle."""

    def used(self, tenant: str) -> float:
        """Return a tenant's counter."""
        return self._used.get(tenant, 0.0)

    def arrive(self, tenant: str) -> None:
        """Count a request of a tenant as active, until `leave`."""
        if not self._active[tenant]:
            lowest = min((self._used[other] for other in self._active if self._active[other]), default=self._last)
            self._used[tenant] = max(self.used(tenant), lowest)
        self._active[tenant] += 1

    def leave(self, tenant: str) -> None:
        """Count a request of a tenant as active no more."""
        self._active[tenant] -= 1
        if not self._active[tenant]:
            del self._active[tenant]
            self._last = max(self._last, self.used(tenant))
            if not self._active:  # nobody is compared with anybody: the next begin anew
                self._used.clear()
                self._last = 0.0

    def charge(self, tenant: str, weight: float, prompt_tokens: int = 0, answer_tokens: int = 0) -> None:
        """Count tokens that are computed for a tenant; less than nothing where fewer were than was thought.

        Args:
            tenant: whose.
            weight: how much of the engine it may have, compared with others.
            prompt_tokens: number of tokens of prompts.
            answer_tokens: number of generated tokens.
        """
        cost = PROMPT_COST * prompt_tokens + ANSWER_COST * answer_tokens
        self._used[tenant] = self.used(tenant) + cost / weight

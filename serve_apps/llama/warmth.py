"""Warmth: which replica has the least to do for a request, from what it was sent before.

The cost of a replica is counted in tokens: those of the prompt that its prefix cache will not hold, the work that waits
there, and what loading the adapter takes. The prefix cache is the engine's own, a chain of whole pages (Zheng et al.,
«SGLang», 2024, route by it, too); what a replica holds is remembered here, the least recently used forgotten first.
"""

import hashlib
import random
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

PAGE = 32
"""Tokens of a page of the prefix cache."""
BESIDE_TOKENS = 48
"""What each request counts as that a replica answers at the same time: the work of a batch is shared."""
BEFORE_TOKENS = 256
"""What each request counts as, besides, that has to wait there for a slot."""
FILL_TOKENS = 96
"""What it counts as that a replica's cache is as full as the others' are on average, at most twice as full."""
BRANCHES = 4
"""A page that so many different pages have followed is common, such as one of a system prompt: each replica soon holds
it, and it says nothing of where a chat has been."""
COMMON_TOKENS = 4
"""What a common page counts as that a replica holds."""
ADAPTER_TOKENS = 768
"""What loading an adapter counts as."""
HOME_TOKENS = 48
"""What it counts as that a replica is not the adapter's home, so that several ingress replicas choose alike."""


class Warmth:
    """What each replica holds, as far as this ingress knows; lives in one event loop."""

    def __init__(self, running: int, pages: int, adapters: int, seed: int | None = None) -> None:
        """Know of no replica.

        Args:
            running: requests that a replica answers at the same time; more wait.
            pages: how many pages of a replica's prefix cache are remembered.
            adapters: how many adapters of a replica are remembered beside those that it reports.
            seed: for choices between equals; None for one of chance.
        """
        self._running, self._pages, self._adapters = running, pages, adapters
        self._followers: OrderedDict[int, set[int]] = OrderedDict()
        self._known: dict[str, OrderedDict[int, None]] = {}
        self._holds: dict[str, OrderedDict[str, None]] = {}
        self._reported: dict[str, frozenset[str]] = {}
        self._choose = random.Random(seed)

    def keep(self, replicas: Collection[str]) -> None:
        """Forget what other replicas hold: they have gone."""
        for held in (self._known, self._holds, self._reported):
            for name in [name for name in held if name not in replicas]:
                del held[name]

    def report(self, replica: str, adapters: Collection[str]) -> None:
        """Note the digests of the adapters that a replica says it holds; what it does not name it has evicted."""
        if self._reported.get(replica) != (told := frozenset(adapters)):
            self._reported[replica] = told
            self._holds[replica] = OrderedDict.fromkeys(
                digest for digest in self._holds.get(replica, ()) if digest in told
            )

    def ranked(self, chain: Sequence[int], tokens: int, adapter: str | None, loads: Mapping[str, int]) -> list[str]:
        """Return the replicas, the one with the least to do first.

        Args:
            chain: names of the prompt's whole pages; see `page_chain`.
            tokens: length of the prompt.
            adapter: digest of the request's adapter; None for the base.
            loads: requests on their way to each replica or answered there.
        """
        home = _home(adapter, tuple(sorted(loads))) if adapter is not None else None
        costs, common = {}, self._common(chain)
        matched = {name: self._matched(name, chain) for name in loads}
        fill = max(1.0, sum(len(self._known.get(name, ())) for name in loads) / len(loads))
        for name, load in loads.items():
            cost = float(tokens)
            cost -= COMMON_TOKENS * min(matched[name], common) + PAGE * max(0, matched[name] - common)
            cost += FILL_TOKENS * min(2.0, len(self._known.get(name, ())) / fill)
            cost += BESIDE_TOKENS * load + BEFORE_TOKENS * max(0, load - self._running)
            if adapter is not None:
                cost += 0 if self._has(name, adapter) else ADAPTER_TOKENS
                cost += 0 if name == home else HOME_TOKENS
            costs[name] = (cost, self._choose.random())
        return sorted(costs, key=costs.__getitem__)

    def sent(self, replica: str, chain: Sequence[int], adapter: str | None) -> None:
        """Note that a replica was sent a prompt, which it holds from now on."""
        self._note_followers(chain)
        known = self._known.setdefault(replica, OrderedDict())
        for page in reversed(chain):  # the beginning is used last, so that it is forgotten last
            known[page] = None
            known.move_to_end(page)
        while len(known) > self._pages:
            known.popitem(last=False)
        if adapter is not None:
            holds = self._holds.setdefault(replica, OrderedDict())
            holds[adapter] = None
            holds.move_to_end(adapter)
            while len(holds) > self._adapters:
                holds.popitem(last=False)

    def _note_followers(self, chain: Sequence[int]) -> None:
        for page, follower in pairwise(chain):
            followers = self._followers.setdefault(page, set())
            if len(followers) < BRANCHES:
                followers.add(follower)
            self._followers.move_to_end(page)
        while len(self._followers) > self._pages:
            self._followers.popitem(last=False)

    def _common(self, chain: Sequence[int]) -> int:
        """Return how many pages at the beginning of a prompt are common."""
        return max((n + 1 for n, page in enumerate(chain) if len(self._followers.get(page, ())) >= BRANCHES), default=0)

    def _matched(self, replica: str, chain: Sequence[int]) -> int:
        known: Collection[int] = self._known.get(replica, ())
        for number, page in enumerate(chain):
            if page not in known:
                return number
        return len(chain)

    def _has(self, replica: str, adapter: str) -> bool:
        return adapter in self._holds.get(replica, ()) or adapter in self._reported.get(replica, ())


def page_chain(prompt: Sequence[int], adapter: str | None) -> list[int]:
    """Return a name for each whole page of a prompt, which says what it holds and all that stands before it.

    An adapter changes what a page holds, so that its digest begins the chain. Names mean nothing to another process.
    """
    name, chain = hash(adapter), []
    for end in range(PAGE, len(prompt) + 1, PAGE):
        name = hash((name, tuple(prompt[end - PAGE : end])))
        chain.append(name)
    return chain


@lru_cache(maxsize=4096)
def _home(adapter: str, replicas: tuple[str, ...]) -> str:
    """Return the replica that an adapter belongs to (highest random weight: Thaler and Ravishankar, 1998)."""
    return max(replicas, key=lambda name: hashlib.blake2b(f"{adapter} {name}".encode(), digest_size=8).digest())

"""KV cache: who owns which page, and which pages already hold the beginning of a prompt.

Pages that are full and final are remembered by what they hold: the adapter, and all tokens from the beginning of the
sequence. A page that nobody uses any more stays until its place is needed, the one unused for longest first. Keys are
the tokens themselves, so two contents can never be taken for one another. Pure Python.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import count

from llama_platform.inference.torch_engine.batch import PAGE

_Key = tuple[int, tuple[int, ...]]


class PagePool:
    """Hands out pages of the cache, shared where their content is."""

    def __init__(self, pages: int, prefix_cache: bool) -> None:
        """Start empty.

        Args:
            pages: in all.
            prefix_cache: whether beginnings are shared between sequences.
        """
        self.pages, self._sharing = pages, prefix_cache
        self.reset()

    def reset(self) -> None:
        """Forget all content; nobody may hold a page."""
        self._free = deque(range(self.pages))
        self._users = [0] * self.pages
        self._known: dict[_Key, int] = {}
        self._identity: dict[int, tuple[_Key, int]] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()
        self._roots: dict[str | None, int] = {}
        self._numbers = count()

    @property
    def available(self) -> int:
        """Return how many pages `take` could hand out."""
        return len(self._free) + len(self._unused)

    def match(self, adapter: str | None, tokens: Sequence[int]) -> list[int]:
        """Return the pages that hold the beginning of `tokens`, and count as their user; whole pages only."""
        found: list[int] = []
        parent = self._roots.get(adapter)
        for start in range(0, len(tokens) - PAGE + 1, PAGE):
            page = None if parent is None else self._known.get((parent, tuple(tokens[start : start + PAGE])))
            if page is None:
                break
            found.append(page)
            self._users[page] += 1
            self._unused.pop(page, None)
            parent = self._identity[page][1]
        return found

    def take(self, number: int) -> list[int]:
        """Return pages of one's own; `number` is at most `available`."""
        taken = []
        for _ in range(number):
            if self._free:
                page = self._free.popleft()
            else:
                page, _ = self._unused.popitem(last=False)
                self._forget(page)
            self._users[page] = 1
            taken.append(page)
        return taken

    def publish(self, adapter: str | None, tokens: Sequence[int], pages: Sequence[int], known: int) -> int:
        """Make full pages findable, and return how many of the sequence are.

        Args:
            adapter: of the sequence.
            tokens: whose keys and values are in the cache.
            pages: of the sequence, from its beginning.
            known: how many of them are findable already.
        """
        if not self._sharing:
            return 0
        parent = self._roots.setdefault(adapter, -1 - len(self._roots))
        if known:
            parent = self._identity[pages[known - 1]][1]
        for place in range(known, len(tokens) // PAGE):
            key = (parent, tuple(tokens[place * PAGE : (place + 1) * PAGE]))
            if key in self._known:
                return place  # a twin was faster; ours stays private, and so does what follows
            page = pages[place]
            self._known[key], self._identity[page] = page, (key, next(self._numbers))
            parent = self._identity[page][1]
        return max(known, len(tokens) // PAGE)

    def release(self, pages: Sequence[int]) -> None:
        """Stop using pages; the last of a sequence become free for others before the first."""
        for page in reversed(pages):
            self._users[page] -= 1
            if self._users[page] == 0:
                if page in self._identity:
                    self._unused[page] = None
                else:
                    self._free.append(page)

    def forget_adapter(self, adapter: str) -> None:
        """Make nothing findable for an adapter any more; its pages age out."""
        self._roots.pop(adapter, None)

    def _forget(self, page: int) -> None:
        key, _ = self._identity.pop(page)
        del self._known[key]

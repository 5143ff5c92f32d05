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
        """Begin with all pages free.

        Args:
            pages: number of pages.
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
        """Return how many pages `allocate` could hand out."""
        return len(self._free) + len(self._unused)

    def match(self, adapter: str | None, tokens: Sequence[int]) -> tuple[list[int], int]:
        """Return the pages that hold the beginning of `tokens`, and count as their user; whole pages only.

        The second value names the content up to their end; `cache_full_page` wants it back.
        """
        found: list[int] = []
        content = self._root(adapter)
        for start in range(0, len(tokens) - PAGE + 1, PAGE):
            page = self._known.get((content, tuple(tokens[start : start + PAGE])))
            if page is None:
                break
            found.append(page)
            self._users[page] += 1
            self._unused.pop(page, None)
            content = self._identity[page][1]
        return found, content

    def allocate(self, number: int) -> list[int]:
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

    def cache_full_page(self, content: int, tokens: Sequence[int], page: int) -> int:
        """Make a full page findable, and return the name of the content up to its end.

        Args:
            content: the name of what comes before, as `match` or `cache_full_page` returned it.
            tokens: the PAGE tokens whose keys and values the page holds.
            page: where; if another page holds the same already, that one is found, and this one stays private.
        """
        if not self._sharing:
            return content
        key = (content, tuple(tokens))
        holder = self._known.setdefault(key, page)
        if holder == page and page not in self._identity:
            self._identity[page] = key, next(self._numbers)
        return self._identity[holder][1]

    def release(self, pages: Sequence[int]) -> None:
        """Stop using pages; the last of a sequence become free for others before the first."""
        for page in reversed(pages):
            self._users[page] -= 1
            if self._users[page] == 0:
                if page in self._identity:
                    self._unused[page] = None
                else:
                    self._free.append(page)

    def forget(self, pages: Sequence[int]) -> None:
        """Let nobody find these pages from now on; whoever uses them goes on, and later contents are lost with them."""
        for page in pages:
            if page in self._identity:
                self._forget(page)
                if page in self._unused:
                    del self._unused[page]
                    self._free.append(page)

    def _root(self, adapter: str | None) -> int:
        # Negative, so that no number of a content is ever the same.
        return self._roots.setdefault(adapter, -1 - len(self._roots))

    def _forget(self, page: int) -> None:
        key, _ = self._identity.pop(page)
        del self._known[key]

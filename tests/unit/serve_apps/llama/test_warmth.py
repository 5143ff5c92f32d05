"""Routing by warmth, with engines that only count: four and sixteen replicas, chats and adapters."""

import random
from collections import Counter, OrderedDict, deque

import pytest

from serve_apps.llama.warmth import PAGE, Warmth, page_chain

ROOM = 16
"""Adapters that fit into an engine."""


class CountingEngine:
    """A prefix cache without bound, and room for some adapters, the least recently used evicted first."""

    def __init__(self):
        self.pages, self.adapters = set(), OrderedDict()
        self.requests = self.tokens = self.cached = self.loads = 0

    def answer(self, chain, tokens, adapter):
        self.requests += 1
        self.tokens += tokens
        self.cached += PAGE * next((n for n, page in enumerate(chain) if page not in self.pages), len(chain))
        self.pages |= set(chain)
        if adapter is None:
            return
        self.loads += adapter not in self.adapters
        self.adapters[adapter] = None
        self.adapters.move_to_end(adapter)
        if len(self.adapters) > ROOM:
            self.adapters.popitem(last=False)


def play(replicas, requests, warm=True, most=48):
    """Route requests, eight in flight for each replica but at most so many, and return the engines."""
    choose = random.Random(5)
    engines = {f"r{number}": CountingEngine() for number in range(replicas)}
    loads, flying, warmth = Counter(dict.fromkeys(engines, 0)), deque(), Warmth(8, 100_000, ROOM, seed=1)
    for prompt, adapter in requests:
        while len(flying) >= min(most, 8 * replicas) or (flying and choose.random() < 0.3):
            number = choose.randrange(len(flying))
            loads[flying[number]] -= 1
            del flying[number]
        chain = page_chain(prompt, adapter)
        if warm:
            name = warmth.ranked(chain, len(prompt), adapter, loads)[0]
            warmth.sent(name, chain, adapter)
        else:
            name = min(choose.sample(sorted(engines), 2), key=loads.__getitem__)
        loads[name] += 1
        flying.append(name)
        engines[name].answer(chain, len(prompt), adapter)
    return list(engines.values())


def chats(users=64, turns=8):
    """Chats with one system prompt, their turns mixed."""
    choose = random.Random(0)

    def tokens(least, most):
        return [choose.randrange(32_000) for _ in range(choose.randint(least, most))]

    system = tokens(200, 200)
    histories = {user: list(system) for user in range(users)}
    turns_left = [user for user in histories for _ in range(turns)]
    choose.shuffle(turns_left)
    for user in turns_left:
        histories[user] += tokens(20, 80)
        yield list(histories[user]), None
        histories[user] += tokens(50, 150)


def popular_adapters(requests=6000, adapters=200):
    """Prompts of their own for adapters whose popularity is Zipf's with exponent 1."""
    choose = random.Random(0)
    weights = [1 / (rank + 1) for rank in range(adapters)]
    for _ in range(requests):
        name = choose.choices(range(adapters), weights)[0]
        yield [choose.randrange(32_000) for _ in range(64)], f"adapter {name}"


def cached(engines):
    return sum(engine.cached for engine in engines) / sum(engine.tokens for engine in engines)


def imbalance(engines):
    requests = [engine.requests for engine in engines]
    return max(requests) / (sum(requests) / len(requests))


@pytest.mark.parametrize("replicas", [4, 16])
def test_chats_find_their_history_again(replicas):
    one, several = play(1, chats()), play(replicas, chats())
    assert cached(several) >= 0.9 * cached(one)
    assert cached(play(replicas, chats(), warm=False)) < 0.7 * cached(one)
    assert imbalance(several) <= 1.3


@pytest.mark.parametrize(("replicas", "share"), [(4, 0.55), (16, 0.15)])
def test_adapters_are_loaded_less_often_than_by_chance(replicas, share):
    """With 4 × 16 places for 200 adapters, the best that never changes its mind would load 0.33 × as often."""
    loads = [sum(engine.loads for engine in play(replicas, popular_adapters(), warm, 128)) for warm in (True, False)]
    assert loads[0] <= share * loads[1]
    assert imbalance(play(replicas, popular_adapters(), most=128)) <= 1.3


def test_a_replica_that_goes_or_comes_moves_only_its_share():
    warmth, loads = Warmth(8, 1000, 300, seed=1), dict.fromkeys(["a", "b", "c", "d"], 0)
    homes = {}
    for number in range(200):
        homes[f"x{number}"] = warmth.ranked([], 64, f"x{number}", loads)[0]
        warmth.sent(homes[f"x{number}"], [], f"x{number}")
    assert all(25 <= count <= 80 for count in Counter(homes.values()).values())
    without = {name: 0 for name in loads if name != "b"}
    warmth.keep(without)
    moved = {name for name in homes if warmth.ranked([], 64, name, without)[0] != homes[name]}
    assert moved == {name for name, home in homes.items() if home == "b"}
    more = {**without, "e": 0}
    stayed = [name for name in homes if name not in moved and warmth.ranked([], 64, name, more)[0] == homes[name]]
    assert len(stayed) == len(homes) - len(moved)


def test_who_is_much_busier_is_passed_over():
    warmth = Warmth(8, 1000, 16, seed=1)
    prompt = list(range(320))
    chain = page_chain(prompt, None)
    warmth.sent("a", chain, None)
    assert warmth.ranked(chain, 320, None, {"a": 2, "b": 0})[0] == "a"
    assert warmth.ranked(chain, 320, None, {"a": 3, "b": 0})[0] == "b"


def test_what_a_replica_reports_counts_more_than_what_it_was_sent():
    warmth = Warmth(8, 1000, 16, seed=1)
    home = warmth.ranked([], 64, "x", {"a": 0, "b": 0})[0]
    other = "b" if home == "a" else "a"
    warmth.report(other, ["x"])
    assert warmth.ranked([], 64, "x", {"a": 0, "b": 0})[0] == other
    warmth.sent(other, [], "x")
    warmth.report(other, [])
    assert warmth.ranked([], 64, "x", {"a": 0, "b": 0})[0] == home


def test_the_same_tokens_are_another_page_behind_another_beginning_or_adapter():
    first, second = page_chain(list(range(64)), None), page_chain([9, *range(1, 64)], None)
    assert len(first) == 2
    assert not set(first) & set(second)
    assert not set(first) & set(page_chain(list(range(64)), "x"))
    assert page_chain(list(range(63)), None) == first[:1]


def test_old_pages_are_forgotten_from_their_end():
    warmth = Warmth(8, 3, 16, seed=1)
    old, new = page_chain(list(range(64)), None), page_chain(list(range(1000, 1064)), None)
    warmth.sent("a", old, None)
    warmth.sent("a", new, None)
    assert warmth._matched("a", new) == 2
    assert warmth._matched("a", old) == 1

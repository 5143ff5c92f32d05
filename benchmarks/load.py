"""Many users at once: twenty tenants, overload, fairness, leaks, and what the guard costs. Loopback only, bounded.

    make test-load

Writes `.cache/load/report.html` with plots, prints a table, and as its last line JSON. It fails where something is
answered that must not be: an error of the server's own, a request beyond a limit, a refusal without Retry-After.
"""

import asyncio
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.engine_models import build_slow_talker
from benchmarks.outcome import Measure, publish
from llama_platform.access.keys import SCOPES
from llama_platform.access.quotas import Quotas
from llama_platform.access.registry import KeyRegistry
from llama_platform.charts import BLUE, GREY, RED, new_chart, svg
from llama_platform.ports import free_port
from llama_platform.storage.open_store import open_store

CACHE = Path(".cache/bench").absolute()
FOLDER = Path(".cache/load").absolute()
TENANTS = 20
LONG = "/v1/completions"
"""Where answers of a fixed length are asked for."""
MIXED_S, OVERLOAD_S, FAIR_S, PAIR_S = 150, 60, 40, 6
PAIRS = 6
TOKENS = 40
"""Of an answer whose length is fixed."""
LIMITED = {0: {"requests_per_minute": 30}, 1: {"tokens_per_minute": 2000}, 2: {"concurrent_requests": 1}}
"""Limits of some of the tenants, by number."""
RULES = """
rules:
- {name: names, terms: [Blue Heron, Northwind], places: [input, sources, output], action: redact}
- {name: mail, personal: [email], places: [output], action: redact}
"""


@dataclass(slots=True)
class Asked:
    """One request, as its client saw it."""

    tenant: str
    status: int
    seconds: float
    first_s: float | None = None
    """Seconds until the first token of a stream."""
    retry_after: float | None = None
    begun: float = field(default_factory=time.monotonic)


class Server:
    """The served applications in a process of their own, and the keys of the tenants."""

    def __init__(self) -> None:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        (FOLDER / "rules.yaml").write_text(RULES)
        registry = KeyRegistry(open_store(str(FOLDER / "store")))
        self.keys = {}
        for number in range(TENANTS):
            limits = Quotas(**LIMITED.get(number, {}))
            _, self.keys[f"t{number}"] = registry.create("k", f"t{number}", SCOPES, ("*",), ("*",), limits=limits)
        self.url = f"http://127.0.0.1:{free_port()}"
        common = {
            "base": {"model": str(build_slow_talker(CACHE)), "prompt_style": "plain", "dtype": "bfloat16"},
            "store": {"uri": str(FOLDER / "store"), "cache": str(FOLDER / "cache")},
            "engine": {"max_running": 8, "max_waiting": 24, "kv_cache_mib": 64},
            "llama": {"num_cpus": 0.4, "threads": 1},
            "retriever": {"num_cpus": 0.1, "threads": 1},
            "index": "docs",
            "limits": {"request_timeout_s": 30},
        }
        guarded = {**common, "auth": {"mode": "keys"}, "safety": {"rules": str(FOLDER / "rules.yaml")}}
        bare = {**common, "audit": {"enabled": False}, "safety": {"turns": "allow"}}
        command = [sys.executable, "-m", "benchmarks.load_served", self.url.rpartition(":")[2]]
        self._log = (FOLDER / "server.log").open("w")
        self._process = subprocess.Popen(
            [*command, json.dumps(guarded), json.dumps(bare)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the application did not start; see {FOLDER / 'server.log'}")
        self.ready_s = json.loads(line)["ready"]

    def processes(self) -> dict[str, psutil.Process]:
        """Return the replicas and the proxy, by name."""
        found = {}
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if "ServeReplica" in title or "ProxyActor" in title:
                    found[f"{title.split('(')[0][:60]} {process.pid}"] = process
        return found

    def close(self) -> None:
        """Stop it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        if self._process.poll() is None:
            self._process.kill()
        self._log.close()


class Client:
    """Asks, and takes note."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self._server, self._session = server, session
        self.asked: list[Asked] = []

    async def ask(
        self, tenant: str, path: str, body: dict[str, Any], prefix: str = "", leave_after: int | None = None
    ) -> Asked:
        """Ask; a stream is left after so many pieces."""
        begun, first, pieces = time.monotonic(), None, 0
        headers = {"Authorization": f"Bearer {self._server.keys[tenant]}"}
        async with self._session.post(self._server.url + prefix + path, json=body, headers=headers) as response:
            if body.get("stream") and response.status == 200:
                async for piece in response.content.iter_any():
                    pieces += 1
                    if first is None and (b'"text"' in piece or b'"content"' in piece):
                        first = time.monotonic() - begun
                    if leave_after is not None and pieces > leave_after:
                        response.close()
                        break
            else:
                await response.read()
            retry = response.headers.get("Retry-After")
            seen = Asked(
                tenant, response.status, time.monotonic() - begun, first, float(retry) if retry else None, begun
            )
        self.asked.append(seen)
        return seen


def a_request(choose: random.Random) -> tuple[str, dict[str, Any], int | None]:
    """Return (path, body, after how many pieces the client leaves) of some user's request."""
    words = " ".join(choose.choices(["tea", "lamp", "Blue Heron", "operator", "why", "how", "table"], k=8))
    new, stream = choose.randint(4, 40), choose.random() < 0.5
    requests: list[tuple[str, dict[str, Any]]] = (
        [
            ("/predict", {"prompt": words, "max_new_tokens": new, "stream": stream}),
            ("/v1/chat/completions", {"model": "base", "messages": [{"role": "user", "content": words}],
                                      "max_tokens": new, "stream": stream}),
            ("/v1/completions", {"model": "base", "prompt": words, "max_tokens": new, "stream": stream}),
            ("/rag", {"question": words, "documents": [{"text": f"A lamp stands on the table. {words}"}],
                      "max_new_tokens": new, "stream": stream}),
            ("/v1/embeddings", {"model": "all-MiniLM-L6-v2", "input": words}),
        ]
    )  # fmt: skip
    path, body = choose.choice(requests)
    return path, body, 2 if body.get("stream") and choose.random() < 0.2 else None


async def mixed(client: Client, watch: "Watch") -> None:
    """Twenty tenants, each with two users that think a moment between their requests."""
    end = time.monotonic() + MIXED_S

    async def user(number: int) -> None:
        choose = random.Random(number)
        while time.monotonic() < end:
            path, body, leaves = a_request(choose)
            await client.ask(f"t{number % TENANTS}", path, body, leave_after=leaves)
            await asyncio.sleep(choose.uniform(0.2, 3))

    watching = asyncio.ensure_future(watch.run())
    await asyncio.gather(*(user(number) for number in range(2 * TENANTS)))
    watching.cancel()


async def at_rate(rate: float, seconds: float, ask: Callable[[int], Awaitable[object]]) -> None:
    """Ask so many times a second, whether or not there are answers."""
    tasks, begun, number = set[asyncio.Future[object]](), time.monotonic(), 0
    while (now := time.monotonic() - begun) < seconds:
        while number < now * rate:
            tasks.add(asyncio.ensure_future(ask(number)))
            number += 1
        tasks = {task for task in tasks if not task.done()}
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)


def long_answer(stream: bool = False, tokens: int = TOKENS) -> dict[str, Any]:
    """Return the body of a request for an answer of just so many tokens."""
    fixed = {"ignore_eos": True, "temperature": 0, "stream": stream}
    return {"model": "base", "prompt": "tell me all", "max_tokens": tokens, **fixed}


async def capacity(client: Client) -> float:
    """Return how many answers a second twelve busy clients get."""
    end, done = time.monotonic() + 10, 0

    async def busy(number: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            seen = await client.ask(f"t{3 + number}", LONG, long_answer())
            done += seen.status == 200  # not in one line with the wait: others count meanwhile

    await asyncio.gather(*(busy(number) for number in range(12)))
    return done / 10


async def overload(client: Client, rate: float, watch: "Watch") -> float:
    """Three times the capacity for a minute; return the share of patient clients that got an answer.

    A patient client does as Retry-After says, five times.
    """
    patient: list[bool] = []

    async def ask(number: int) -> None:
        tenant = f"t{3 + number % 12}"
        seen = await client.ask(tenant, LONG, long_answer())
        if number % 20 == 0:
            for _ in range(5):
                if seen.status == 200:
                    break
                await asyncio.sleep(seen.retry_after or 1)
                seen = await client.ask(tenant, LONG, long_answer())
            patient.append(seen.status == 200)

    watching = asyncio.ensure_future(watch.run())
    await at_rate(3 * rate, OVERLOAD_S, ask)
    watching.cancel()
    return sum(patient) / max(1, len(patient))


async def fairness(client: Client, rate: float) -> dict[str, list[float]]:
    """Return the first tokens' times of a modest tenant: alone, beside a flood, and as one tenant with the flood."""
    found: dict[str, list[float]] = {}
    for name, flooding in (("alone", None), ("beside a flood", "t4"), ("in the flood's tenant", "t3")):
        times: list[float] = []

        async def modest(number: int, times: list[float] = times) -> None:
            seen = await client.ask("t3", LONG, long_answer(stream=True, tokens=8))
            times.append(seen.first_s if seen.first_s is not None else 30.0)

        async def flood(number: int, tenant: str | None = flooding) -> None:
            if tenant is not None:
                await client.ask(tenant, LONG, long_answer(tokens=8 * TOKENS))

        # Ten times the capacity in long answers: in short ones HTTP would be what is flooded.
        await asyncio.gather(at_rate(10 * rate / 8 if flooding else 0.1, FAIR_S, flood), at_rate(2, FAIR_S - 5, modest))
        found[name] = times
        await asyncio.sleep(3)
    return found


async def guard_costs(client: Client) -> dict[str, list[tuple[float, float]]]:
    """Return (first token in s, requests a second) of rounds with and without the guard, taking turns."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in range(2 * PAIRS):
        prefix = ("", "/bare")[turn % 2 if turn % 4 < 2 else 1 - turn % 2]
        firsts = [
            (await client.ask("t5", LONG, long_answer(stream=True, tokens=2), prefix)).first_s or 9 for _ in range(60)
        ]
        end, done = time.monotonic() + PAIR_S, 0

        async def busy(number: int, prefix: str = prefix, end: float = end) -> int:
            done = 0
            while time.monotonic() < end:
                done += (await client.ask(f"t{5 + number}", LONG, long_answer(), prefix)).status == 200
            return done

        done = sum(await asyncio.gather(*(busy(number) for number in range(8))))
        found[prefix].append((statistics.median(firsts), done / PAIR_S))
    return found


class Watch:
    """Memory, descriptors and threads of every process, each second."""

    def __init__(self, server: Server) -> None:
        self._processes, self._begun = server.processes(), time.monotonic()
        self.seen: dict[str, list[tuple[float, float, int, int]]] = defaultdict(list)

    async def run(self) -> None:
        """Look each second, for ever."""
        while True:
            for name, process in self._processes.items():
                with suppress(psutil.Error):
                    facts = process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()
                    self.seen[name].append((time.monotonic() - self._begun, *facts))
            await asyncio.sleep(1)

    def growth(self) -> dict[str, tuple[float, int, int]]:
        """Return by how much each process grew from its first third to its last: MiB, descriptors, threads."""
        found = {}
        for name, rows in self.seen.items():
            third = max(1, len(rows) // 3)
            first, last = rows[third // 2 : third], rows[-third // 2 :]
            if first and last:
                found[name] = (
                    statistics.mean(row[1] for row in last) - statistics.mean(row[1] for row in first),
                    round(statistics.mean(row[2] for row in last) - statistics.mean(row[2] for row in first)),
                    round(statistics.mean(row[3] for row in last) - statistics.mean(row[3] for row in first)),
                )
        return found


def p95(values: list[float]) -> float:
    """Return the 95th percentile; 0 of nothing."""
    return statistics.quantiles(values, n=20)[18] if len(values) > 1 else (values or [0.0])[0]


def wrong(asked: list[Asked]) -> list[str]:
    """Return what must not have happened."""
    found = [f"{seen.status} for {seen.tenant}" for seen in asked if seen.status >= 500 and seen.status != 503]
    found += [
        f"{seen.status} without Retry-After" for seen in asked if seen.status in (429, 503) and seen.retry_after is None
    ]
    found += [f"{seen.status} for {seen.tenant}" for seen in asked if seen.status in (400, 401, 403, 404, 422)]
    by_minute = Counter(
        int(seen.begun // 60) for seen in asked if seen.tenant == "t0" and seen.status not in (429, 503)
    )
    limit = LIMITED[0]["requests_per_minute"]
    found += [
        f"t0: {count} requests in a minute of at most {limit}" for count in by_minute.values() if count > 2 * limit
    ]
    return found


async def main() -> int:
    """Run all, report, and return the exit code."""
    begun, server = time.monotonic(), Server()
    try:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
            users, busy, pressed, modest, costs = (Client(server, session) for _ in range(5))
            say(begun, f"both applications ready in {server.ready_s:.0f} s")
            soak, memory = Watch(server), Watch(server)
            await mixed(users, soak)
            say(begun, f"{len(users.asked)} requests of {TENANTS} tenants")
            rate = await capacity(busy)
            patient = await overload(pressed, rate, memory)
            say(begun, f"{len(pressed.asked)} requests at three times {rate:.1f}/s")
            shares = await fairness(modest, rate)
            say(begun, "fairness")
            pairs = await guard_costs(costs)
            say(begun, "the guard")
    finally:
        server.close()
    problems = wrong(users.asked + busy.asked + pressed.asked + modest.asked + costs.asked)
    measures = report(users, pressed, patient, soak, memory, shares, pairs)
    publish("load", measures, ["ray", "fastapi", "limits"], [])
    for problem, count in Counter(problems).most_common(10):
        print(f"wrong: {problem} ({count} times)", file=sys.stderr)
    return 1 if problems else 0


def report(
    users: Client,
    pressed: Client,
    patient: float,
    soak: Watch,
    memory: Watch,
    shares: dict[str, list[float]],
    pairs: dict[str, list[tuple[float, float]]],
) -> dict[str, Measure]:
    """Write the page, and return the measures."""
    accepted = [seen.seconds for seen in pressed.asked if seen.status == 200]
    refused = [seen.seconds for seen in pressed.asked if seen.status in (429, 503)]
    growth, flat = soak.growth(), memory.growth()
    most, grown = (max((value[0] for value in one.values()), default=0.0) for one in (growth, flat))
    alone, fair, unfair = (p95(shares[name]) for name in ("alone", "beside a flood", "in the flood's tenant"))
    firsts = {prefix: statistics.median(one[0] for one in rounds) for prefix, rounds in pairs.items()}
    rates = statistics.median(guarded[1] / bare[1] for guarded, bare in zip(pairs[""], pairs["/bare"], strict=True))
    statuses = Counter(str(seen.status) for seen in users.asked)
    charts = [
        _bars("Statuses of the mixed load", statuses),
        _lines("Memory of the processes under the mixed load, MiB", soak),
        _lines("Memory at three times the capacity, MiB", memory),
        _histogram("Seconds at three times the capacity", {"answered": accepted, "refused": refused}),
        _histogram("Seconds to the first token of a modest tenant", shares),
    ]
    rows = "".join(
        f"<tr><td>{name}</td><td>{mib:+.1f}</td><td>{fds:+d}</td><td>{threads:+d}</td></tr>"
        for name, (mib, fds, threads) in growth.items()
    )
    (FOLDER / "report.html").write_text(
        "<!doctype html><meta charset=utf-8><title>Load</title><h1>Load</h1>"
        f"{''.join(charts)}<h2>Growth from the first third to the last</h2>"
        f"<table border=1><tr><th>process</th><th>MiB</th><th>descriptors</th><th>threads</th></tr>{rows}</table>"
    )
    print(f"report: {FOLDER / 'report.html'}", file=sys.stderr)
    return {
        "overload_refusal_p95_ms": Measure(1000 * p95(refused), 100, "lower", "ms", 1000 * p95(refused), {}),
        "overload_accepted_p95_s": Measure(p95(accepted), 30, "lower", "s", p95(accepted), {}),
        "overload_patient_share": Measure(patient, 0.95, "higher", "share", patient, {}),
        "overload_memory_growth_mib": Measure(grown, 50, "lower", "MiB", grown, {}),
        "soak_memory_growth_mib": Measure(most, 50, "lower", "MiB", most, {}),
        "soak_descriptors": Measure(
            max((value[1] for value in growth.values()), default=0), 20, "lower", "descriptors", 0, {}
        ),
        "fair_first_token_vs_alone": Measure(
            fair / alone, 2, "lower", "ratio", fair, {"alone": alone, "unfair": unfair}
        ),
        "guard_first_token_ms": Measure(
            1000 * (firsts[""] - firsts["/bare"]), 1, "lower", "ms", 1000 * firsts[""], {"bare": 1000 * firsts["/bare"]}
        ),
        "guard_throughput": Measure(rates, 0.98, "higher", "ratio", statistics.median(r[1] for r in pairs[""]), {}),
    }


def _bars(title: str, counts: Counter[str]) -> str:
    figure, axes = new_chart(title)
    axes.bar(list(counts), list(counts.values()), color=BLUE)
    return svg(figure)


def _lines(title: str, watch: Watch) -> str:
    figure, axes = new_chart(title)
    for rows in watch.seen.values():
        axes.plot([row[0] for row in rows], [row[1] for row in rows], color=BLUE, linewidth=1)
    axes.set_xlabel("seconds")
    axes.set_ylim(bottom=0)
    return svg(figure)


def _histogram(title: str, values: dict[str, list[float]]) -> str:
    figure, axes = new_chart(title)
    for (name, ours), colour in zip(values.items(), (BLUE, RED, GREY), strict=False):
        axes.hist([max(value, 1e-3) for value in ours], bins=[0.001 * 1.4**n for n in range(32)], color=colour,
                  alpha=0.6, label=f"{name} ({len(ours)})")  # fmt: skip
    axes.set_xscale("log")
    axes.legend(frameon=False)
    return svg(figure)


def say(begun: float, text: str) -> None:
    """Print how far it is."""
    print(f"{time.monotonic() - begun:4.0f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

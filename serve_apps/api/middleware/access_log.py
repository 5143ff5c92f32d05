"""Access log: one JSON line for each request, and the metrics of the ingress.

Prompts are in the log as their sha256 only, unless the configuration says otherwise.
"""

import hashlib
import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from fastapi import Request

from llama_platform.access.usage import UsageCounts
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.canary.counts import Observation, SplitKey
from llama_platform.feedback.book import Conversation, Turn
from llama_platform.inference.protocol import FinishEvent, GenerationRequest, TokenEvent
from llama_platform.metrics import SERVER_ERRORS
from llama_platform.models.prompt import Message
from serve_apps.api.traffic import Traffic

log = logging.getLogger(__name__)
UNGROUNDED = 0.5
"""Share of an answer's sentences that its sources must support; with less it counts against a canary."""
MODEL_FAILURES = frozenset({"error", *SERVER_ERRORS} - {"overloaded", "unavailable", "storage"})
"""Outcomes that count as a failure of the version that answers."""
_BLOCKED = re.compile(r"output:.*:block")
_TRACED = ("adapter", "version", "first_token_ms", "queue_ms")
"""Facts of a request that its trace tells beside tokens and outcome."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Observer(Protocol):
    """Receives the figures of every request, such as for metrics."""

    def request(self, route: str, code: str, seconds: float) -> None:
        """Count a request that has ended."""
        ...

    def screened(self, place: str, action: str) -> None:
        """Count what a rule did at `input`, `sources` or `output`."""
        ...

    def first_token(self, seconds: float) -> None:
        """Observe the time until an answer's first token."""
        ...

    def between_tokens(self, seconds: float) -> None:
        """Observe the time between two pieces of an answer, per token."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work on a request; Unix time in nanoseconds."""

    name: str
    begun_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A request that has ended, as a trace tells it."""

    trace_id: str
    """32 hexadecimal digits: the client's, or a new one."""
    parent_span: str | None
    """16 hexadecimal digits of the client's span; None where it named none."""
    method: str
    begun_ns: int
    """Unix time in nanoseconds."""
    ended_ns: int
    """Unix time in nanoseconds."""
    outcome: str
    facts: Mapping[str, str | int | float]
    """What else is known, by the names of attributes."""
    stages: Sequence[Stage]


class RequestRecord:
    """What is known of one request; kept in `request.state.record`."""

    def __init__(self, request_id: str, method: str, path: str, traceparent: str, observer: Observer) -> None:
        """Begin the record of a request that arrives now.

        Args:
            request_id: number of the request.
            method: HTTP method.
            path: path as the client wrote it, without the query.
            traceparent: W3C trace context header; an empty or invalid one begins a new trace.
            observer: counts the request once it has ended.
        """
        self.request_id = request_id
        self._start, self._begun_ns = time.monotonic(), time.time_ns()
        self._stages: list[Stage] = []
        self._status = 0
        self._observer = observer
        self.route = "none"
        """Template of the route."""
        self._generations: tuple[GenerationRequest, ...] = ()
        self._answers: list[list[str]] = []
        self._turns: tuple[Message, ...] = ()
        self._user = ""
        self._facts: dict[str, Any] = {"request": request_id, "method": method, "path": path}
        trace = _TRACEPARENT.fullmatch(traceparent)
        valid = trace is not None and trace[1].strip("0") != "" and trace[2].strip("0") != ""
        self._facts["trace"] = trace[1] if trace and valid else uuid.uuid4().hex
        if trace and valid:
            self._facts["parent_span"] = trace[2]
        self._last_token_at: dict[int, float] = {}
        self._tokens = {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}
        self._outcome: str | None = None
        self._safety = Counter[str]()
        self.split: SplitKey | None = None
        """The split of an alias that chose the version; None where there was no choice."""
        self._grounded: float | None = None
        self._model_failed = False

    def asked(self, prompt: str, keep: bool) -> None:
        """Note the prompt: its text if `keep`, else its sha256."""
        self._facts |= {"prompt": prompt} if keep else {"prompt_sha256": _sha256(prompt)}

    def converses(self, messages: Sequence[Message], user: str | None) -> None:
        """Note the turns that one answer is given to, as the model reads them, and who asks."""
        self._turns, self._user = tuple(messages), user or ""

    def conversation(self, tenant: str) -> Conversation | None:
        """Return what was asked and answered; None where there is not one whole answer to a chat."""
        if not self._turns or len(self._answers) != 1 or self._outcome != "stop":
            return None
        return Conversation(
            request=self.request_id,
            tenant=tenant,
            user=self._user,
            time=datetime.now(UTC),
            messages=[Turn(role=turn.role, content=turn.content) for turn in self._turns],
            answer="".join(self._answers[0]),
            adapter=self._facts.get("adapter"),
            version=self._facts.get("version"),
            digest=self._facts.get("digest"),
            alias=self.split.alias if self.split else None,
            generation=self.split.generation if self.split else None,
        )

    def routed(self, route: str) -> None:
        """Note the route's template, such as `/v1/models/{model}`: a metric has one line for each."""
        self.route = route

    def generates(self, requests: Sequence[GenerationRequest]) -> None:
        """Note what the model is asked for the client; the events of the answers have these numbers."""
        self._generations, self._answers = tuple(requests), [[] for _ in requests]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note how long a part of the work takes, for the request's trace."""
        begun = time.time_ns()
        try:
            yield
        finally:
            self._stages.append(Stage(name, begun, time.time_ns()))

    def trace(self) -> Trace:
        """Return the request as a trace tells it, once it is closed."""
        facts: dict[str, str | int | float] = {
            f"llama.{name}": self._facts[name] for name in _TRACED if name in self._facts
        }
        facts |= {f"llama.{name}": count for name, count in self._tokens.items() if count}
        return Trace(
            self._facts["trace"], self._facts.get("parent_span"), self._facts["method"], self._begun_ns, time.time_ns(),
            self._outcome_of(self._status), facts, tuple(self._stages),
        )  # fmt: skip

    def searched(self, index: ArtifactVersion) -> None:
        """Note the index that sources are searched in."""
        self._facts["index"] = {"name": index.name, "version": index.version, "digest": index.digest}

    def audit(self, status: int, full: bool) -> dict[str, Any]:
        """Return what the audit trail keeps of the request so far.

        Args:
            status: HTTP status of the response; 0 where there is none.
            full: whether prompts and answers themselves are kept, or their sha256.
        """
        told = ["method", "adapter", "version", "digest", "index"]
        if self.route.startswith("/admin"):
            told.append("path")
        kept = {name: value for name, value in self._facts.items() if name in told}
        generations = []
        for number, request in enumerate(self._generations):
            text = "".join(self._answers[number])
            ids = list(request.prompt_ids)
            said: dict[str, Any] = {"prompt_ids": ids, "answer": text}
            if not full:
                said = {"prompt_sha256": _sha256(str(ids)), "answer_sha256": _sha256(text)}
            generations.append({**said, "continues": request.continues, "sampling": asdict(request.sampling)})
        return {
            **kept,
            "route": self.route,
            "status": status,
            "outcome": self._outcome_of(status),
            "tokens": {name: count for name, count in self._tokens.items() if count},
            "safety": dict(self._safety),
            "generations": generations,
        }

    def answered_by(self, adapter: ArtifactVersion, split: SplitKey | None) -> None:
        """Note the adapter that answers, and the split of an alias that chose it; None where there was no choice."""
        self._facts |= {"adapter": adapter.name, "version": adapter.version, "digest": adapter.digest}
        self.split = split

    def supported(self, grounded: float) -> None:
        """Note the share of the answer that its sources support."""
        self._grounded = grounded

    def model_failed(self) -> None:
        """Note that the model failed, though the client got an answer without it."""
        self._model_failed = True

    def observation(self, status: int) -> Observation | None:
        """Return what a canary counts of the request, once it has ended with an HTTP status.

        None of what asked no model, and of what was the client's mistake.
        """
        outcome, tokens = self._outcome_of(status), self._tokens["completion_tokens"]
        if not self._generations or 400 <= status < 500:
            return None
        waited_ms = 1000 * (time.monotonic() - self._start)  # of who left, or gave up, before anything came
        return Observation(
            failed=self._model_failed or outcome in MODEL_FAILURES,
            refused=outcome == "content_filter" or any(_BLOCKED.fullmatch(found) for found in self._safety),
            ungrounded=self._grounded is not None and self._grounded < UNGROUNDED,
            unended=outcome == "length",
            first_token_ms=self._facts.get("first_token_ms", waited_ms),
            answer_tokens=tokens if outcome in ("stop", "length") else None,
        )

    def count_in(self, traffic: Traffic, tenant: str, status: int) -> None:
        """Count the request of a tenant, which has ended with an HTTP status, among what was answered lately."""
        tokens = (self._tokens[name] for name in ("prompt_tokens", "cached_tokens", "completion_tokens"))
        traffic.count(tenant, status, time.monotonic() - self._start, self._facts.get("first_token_ms"), *tokens)

    @property
    def version(self) -> int:
        """Version of the adapter that answers; 0 for the base."""
        return int(self._facts.get("version", 0))

    def note(self, number: int, event: TokenEvent | FinishEvent) -> None:
        """Note an event of one of the answers."""
        now = time.monotonic()
        if isinstance(event, TokenEvent):
            self._answers[number].append(event.text)
            last = self._last_token_at.get(number)
            if last is None:
                self._facts.setdefault("first_token_ms", round(1000 * (now - self._start), 1))
                self._observer.first_token(now - self._start)
            elif event.token_ids:
                self._observer.between_tokens((now - last) / len(event.token_ids))
            self._last_token_at[number] = now
            return
        self.count(event)
        self._facts["queue_ms"] = round(1000 * event.timings.queue_s, 1)
        self._outcome = self._outcome or event.reason

    def count(self, event: FinishEvent) -> None:
        """Count the tokens of an answer, also of one that the client does not see."""
        self._tokens["prompt_tokens"] += event.usage.prompt_tokens
        self._tokens["completion_tokens"] += event.usage.completion_tokens
        self._tokens["cached_tokens"] += event.usage.cached_tokens

    def left(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Note that the client has left, and the tokens that were computed for answers that have not ended."""
        self._outcome = "client_gone"
        self._tokens["prompt_tokens"] += prompt_tokens
        self._tokens["completion_tokens"] += completion_tokens

    def embedded(self, tokens: int) -> None:
        """Note the tokens of texts that were embedded."""
        self._tokens["prompt_tokens"] += tokens

    def usage(self) -> UsageCounts:
        """Return the tokens so far."""
        return UsageCounts(**self._tokens)

    @property
    def adapter(self) -> str:
        """Name of the adapter that answers; empty for the base."""
        return str(self._facts.get("adapter", ""))

    def screened(self, place: str, rule: str, action: str) -> None:
        """Note what a rule has found: at `input`, `sources` or `output`, and what happened then."""
        self._safety[f"{place}:{rule}:{action}"] += 1
        self._observer.screened(place, action)

    def noted(self, place: str, blocked_by: str | None, redacted: Sequence[str], flagged: Sequence[str]) -> None:
        """Note what rules made of one text; see Record."""
        if blocked_by is not None:
            self.screened(place, blocked_by, "block")
        for rule in redacted:
            self.screened(place, rule, "redact")
        for rule in flagged:
            self.screened(place, rule, "flag")

    def capped(self, max_tokens: int) -> None:
        """Note that a longer answer was asked for than the server allows."""
        self._facts["max_tokens_capped"] = max_tokens

    def failed(self, code: str) -> None:
        """Note the code of what ended the request, other than well."""
        self._outcome = code

    def close(self, status: int) -> None:
        """Write the line.

        Args:
            status: HTTP status that was sent; 0 where the client left before.
        """
        seconds, self._status = time.monotonic() - self._start, status
        outcome = self._outcome_of(status)
        facts = {**self._facts, "status": status, "outcome": outcome, "total_ms": round(1000 * seconds, 1)}
        if self._safety:
            facts["safety"] = dict(self._safety)
        if any(self._tokens.values()):
            facts |= self._tokens
        log.info("request", extra=facts)
        self._observer.request(self.route, outcome, seconds)

    def _outcome_of(self, status: int) -> str:
        return self._outcome or ("client_gone" if status == 0 else "ok" if status < 400 else f"http_{status}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def record_of(request: Request) -> RequestRecord:
    """Return the record of a request."""
    record: RequestRecord = request.state.record
    return record

"""Stream batching: a stream's first token at once, later ones together, none held longer than a bound.

Every message between replica and client costs about as much as computing a token of a small model; people read no
faster for it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from llama_platform.inference.protocol import FinishEvent, IndexedEvent, TokenEvent

Event = TokenEvent | FinishEvent


class StreamBatcher:
    """Collects the events of the answers of one request."""

    def __init__(self, hold_s: float) -> None:
        """Begin without events; must be made in the running event loop.

        Args:
            hold_s: seconds for which a token is held at most.
        """
        self._hold_s = hold_s
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, list[Event]] = {}
        self._begun: set[int] = set()
        self._sent_at = -hold_s
        self._timer: asyncio.TimerHandle | None = None
        self._batches: asyncio.Queue[list[IndexedEvent] | BaseException] = asyncio.Queue()

    def push(self, number: int, event: Event) -> None:
        """Add an event of an answer."""
        self._waiting.setdefault(number, []).append(event)
        due = self._sent_at + self._hold_s
        if number not in self._begun or isinstance(event, FinishEvent) or self._loop.time() >= due:
            self._begun.add(number)
            self._send()
        elif self._timer is None:
            self._timer = self._loop.call_at(due, self._send)

    def fail(self, error: BaseException) -> None:
        """End the stream with an error, after what came before it."""
        self._send()
        self._batches.put_nowait(error)

    async def next(self) -> list[IndexedEvent]:
        """Return the next events, in order for each answer.

        Raises:
            BaseException: what `fail` was given.
        """
        batch = await self._batches.get()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            batch = [(number, event) for number, events in self._waiting.items() for event in merge(events)]
            self._waiting = {}
            self._sent_at = self._loop.time()
            self._batches.put_nowait(batch)


def merge(events: Sequence[Event]) -> list[Event]:
    """Return the events of one answer with its tokens in one event."""
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    rest = [event for event in events if isinstance(event, FinishEvent)]
    if len(tokens) > 1:
        tokens = [
            TokenEvent(
                "".join(event.text for event in tokens),
                tuple(token for event in tokens for token in event.token_ids),
                tuple(logprob for event in tokens for logprob in event.logprobs),
            )
        ]
    return [*tokens, *rest]


async def batch_streams(
    answers: Sequence[AsyncIterator[Event]], hold_s: float
) -> AsyncGenerator[list[IndexedEvent], None]:
    """Yield the events of several answers, numbered; closing it closes them all.

    Raises:
        Exception: what the first answer that failed raised; the others are closed.
    """
    coalescer = StreamBatcher(hold_s)

    async def pump(number: int, answer: AsyncIterator[Event]) -> None:
        try:
            async with aclosing(answer) as events:  # type: ignore[type-var]
                async for event in events:
                    coalescer.push(number, event)
        except Exception as error:  # handed on to whoever reads the stream
            coalescer.fail(error)

    pumps = [asyncio.ensure_future(pump(number, answer)) for number, answer in enumerate(answers)]
    unfinished = len(pumps)
    try:
        while unfinished:
            batch = await coalescer.next()
            unfinished -= sum(isinstance(event, FinishEvent) for _, event in batch)
            yield batch
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

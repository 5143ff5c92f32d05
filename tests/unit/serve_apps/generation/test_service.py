"""Everything that makes the model generate goes through GenerationService.stream."""

import asyncio
import re
from contextlib import nullcontext
from pathlib import Path

from llama_platform.inference.protocol import SamplingParams
from serve_apps.generation.deadline import Deadline
from serve_apps.generation.service import RequestContext

SOURCES = Path(__file__).parents[4] / "serve_apps"
DOOR = "generation/service.py"
CALLS = re.compile(r"\.generate(?:\.remote)?\(|\bgenerator\b\.")
ALLOWED = {
    DOOR,  # the one that asks
    "ingress/remote.py",  # carries the call to the deployment
    "llama/deployment.py",  # the deployment asks its engine
}


def test_no_other_module_calls_the_generator():
    found = {p.relative_to(SOURCES).as_posix() for p in SOURCES.rglob("*.py") if CALLS.search(p.read_text())}
    assert found == ALLOWED


def test_every_answer_of_every_route_is_counted(make_http):
    """Also the rewriting of a chat's question, which the client never sees."""
    http = make_http(index="docs", rag={"standalone": "model"})
    from llama_platform.inference.protocol import FinishEvent

    asked = []
    stream = type(http.api.state.state.generation).stream

    async def watched(self, request, context):
        asked.append((request.requests[0].request_id, context.internal))
        async for batch in stream(self, request, context):
            assert all(isinstance(event, FinishEvent) or event.token_ids is not None for _, event in batch)
            yield batch

    type(http.api.state.state.generation).stream = watched
    try:
        document = {"text": "A lamp stands on the table.", "id": "lamp"}
        messages = [
            {"role": r, "content": c} for r, c in [("user", "A lamp?"), ("assistant", "Yes."), ("user", "Where?")]
        ]
        http.post("/rag", {"messages": messages, "documents": [document]})
        http.post("/predict", {"prompt": "x", "max_new_tokens": 4})
        http.post("/v1/chat/completions", {"model": "base", "messages": messages[:1], "max_tokens": 4})
        http.post("/v1/completions", {"model": "base", "prompt": "x", "max_tokens": 4})
    finally:
        type(http.api.state.state.generation).stream = stream
    assert [internal for _, internal in asked].count(True) == 1
    assert len(asked) == len(http.generator.asked) == 5


class Left:
    """Records what a request was charged with."""

    def __init__(self):
        self.tokens = None

    def stage(self, name):
        return nullcontext()

    def generates(self, requests):
        pass

    def note(self, number, event):
        pass

    def left(self, prompt_tokens, completion_tokens):
        self.tokens = (prompt_tokens, completion_tokens)


def test_a_stream_that_its_client_leaves_is_told_with_the_tokens_until_then(make_http):
    service, record = make_http(step_s=0.01).api.state.state.generation, Left()
    context = RequestContext("r", "s", Deadline.after(30), record)

    async def story():
        prepared = await service.prepare(
            [(5, 6, 7)], lambda room: SamplingParams(max_new_tokens=100, ignore_eos=True), context, adapter=None
        )
        stream, seen = service.stream(prepared, context), 0
        async for batch in stream:
            seen += sum(len(event.token_ids) for _, event in batch)
            if seen >= 3:
                break
        await stream.aclose()
        return seen

    seen = asyncio.run(story())
    assert record.tokens == (3, seen)

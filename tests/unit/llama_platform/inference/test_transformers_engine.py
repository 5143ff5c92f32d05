import asyncio
import time
from contextlib import aclosing

import pytest

from llama_platform.inference.engine import FinishEvent, GenerationRequest, Sampling, TokenEvent
from llama_platform.inference.transformers_engine import TransformersEngine
from llama_platform.models.prompt import Message


@pytest.fixture(scope="module")
def engine(tiny_config, tiny_template):
    engine = TransformersEngine(tiny_config, tiny_template.tokenizer, threads=1)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture
def request_of(tiny_template):
    def make(question="Hello!", **fields):
        other = {key: fields.pop(key) for key in ("deadline", "adapter_digest") if key in fields}
        ids = tuple(tiny_template.encode_prompt([Message("user", question)]))
        sampling = Sampling(**{"temperature": 0.0, "max_new_tokens": 20, **fields})
        return GenerationRequest(request_id="r", prompt_ids=ids, sampling=sampling, **other)

    return make


def collect(engine, request):
    async def run():
        return [event async for event in engine.generate(request)]

    return asyncio.run(run())


def test_tokens_then_one_finish(engine, request_of):
    *tokens, finish = collect(engine, request_of())
    assert all(isinstance(event, TokenEvent) for event in tokens)
    assert isinstance(finish, FinishEvent)
    assert (finish.reason, finish.error) == ("stop", None)
    text = "".join(event.text for event in tokens)
    assert text == "Hello! How can I help you today?"
    assert finish.usage.completion_tokens == sum(len(event.token_ids) for event in tokens) + 1  # and the end of turn


def test_length_and_stop_text(engine, request_of):
    assert collect(engine, request_of(max_new_tokens=3))[-1].reason == "length"
    *tokens, finish = collect(engine, request_of(stop=("help",)))
    assert finish.reason == "stop"
    assert "".join(event.text for event in tokens) == "Hello! How can I "


def test_a_seed_repeats_the_answer(engine, request_of):
    def text(seed):
        events = collect(engine, request_of("Tell me about a baker.", temperature=1.5, seed=seed))
        return "".join(event.text for event in events[:-1])

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) > 1


def test_a_passed_deadline_ends_the_answer(engine, request_of):
    finish = collect(engine, request_of(deadline=time.time() - 1))[-1]
    assert (finish.reason, finish.usage.completion_tokens) == ("deadline", 0)


def test_leaving_frees_the_engine(engine, request_of):
    async def run():
        async with aclosing(engine.generate(request_of("Repeat: a b c", max_new_tokens=2000, stop=()))) as events:
            await anext(events)
        for _ in range(100):
            if engine.stats().running == 0:
                return True
            await asyncio.sleep(0.02)
        return False

    assert asyncio.run(run())


def test_a_failing_request_fails_alone(engine, request_of):
    finish = collect(engine, request_of(adapter_digest="missing"))[-1]
    assert finish.reason == "error"
    assert "not loaded" in finish.error
    assert collect(engine, request_of())[-1].reason == "stop"

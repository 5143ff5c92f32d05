"""What every engine promises, as tests: inherit from EngineContract, and from ModelContract where there is a model, and
give an `engine` and an `adapter_folder`."""

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from llama_platform.errors import EngineError, InputError, IntegrityError
from llama_platform.inference.protocol import FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from llama_platform.inference.structure import choice, json_schema, tool_calls
from llama_platform.models.prompt import Message
from llama_platform.models.tools import Tool, ToolCall, write_call

QUESTIONS = ["Hello!", "Tell me about a baker.", "What is Ray?", "Count to ten.", "Who are you?"]


async def answer(engine, request):
    return [event async for event in engine.generate(request)]


def text_of(events):
    return "".join(event.text for event in events[:-1])


def ids_of(events):
    return [token for event in events[:-1] for token in event.token_ids]


class EngineContract:
    """Test methods are coroutines run in one event loop per engine; see `run`."""

    @pytest.fixture
    def request_of(self, tiny_template):
        def make(question="Hello!", **fields):
            other = {key: fields.pop(key) for key in ("deadline", "adapter_digest", "priority") if key in fields}
            ids = fields.pop("prompt_ids", None) or tiny_template.encode_prompt([Message("user", question)])
            sampling = SamplingParams(**{"temperature": 0.0, "max_new_tokens": 20, **fields})
            return GenerationRequest(
                request_id=f"r{time.monotonic_ns()}", prompt_ids=tuple(ids), sampling=sampling, **other
            )

        return make

    def test_tokens_come_first_and_one_finish_last(self, engine, request_of, run):
        *tokens, finish = run(answer(engine, request_of()))
        assert all(isinstance(event, TokenEvent) for event in tokens)
        assert isinstance(finish, FinishEvent)
        assert finish.error is None
        assert finish.reason in ("stop", "length")
        ended = finish.reason == "stop"
        assert finish.usage.completion_tokens == sum(len(event.token_ids) for event in tokens) + ended
        assert finish.usage.prompt_tokens == len(request_of().prompt_ids)
        timings = finish.timings
        assert 0 <= timings.queue_s <= timings.first_token_s <= timings.total_s

    def test_the_text_is_that_of_the_tokens(self, engine, request_of, run, tiny_template):
        events = run(answer(engine, request_of("Tell me about a baker.", max_new_tokens=40)))
        assert text_of(events) == tiny_template.tokenizer.decode(ids_of(events), skip_special_tokens=True).lstrip(" ")

    def test_an_answer_ends_at_its_length(self, engine, request_of, run):
        finish = run(answer(engine, request_of(max_new_tokens=3)))[-1]
        assert (finish.reason, finish.usage.completion_tokens) == ("length", 3)

    def test_ignoring_the_end_goes_on_to_the_length(self, engine, request_of, run):
        finish = run(answer(engine, request_of(max_new_tokens=60, ignore_eos=True)))[-1]
        assert (finish.reason, finish.usage.completion_tokens) == ("length", 60)

    def test_no_end_before_the_least_length(self, engine, request_of, run):
        finish = run(answer(engine, request_of(max_new_tokens=40, min_new_tokens=30)))[-1]
        assert finish.usage.completion_tokens >= 30

    def test_a_stop_text_ends_the_answer_and_is_not_shown(self, engine, request_of, run):
        whole = text_of(run(answer(engine, request_of("Tell me about a baker.", max_new_tokens=30))))
        stop = whole[len(whole) // 2 :][:5]
        events = run(answer(engine, request_of("Tell me about a baker.", max_new_tokens=30, stop=(stop,))))
        assert events[-1].reason == "stop"
        assert text_of(events) == whole[: whole.index(stop)]

    def test_a_stop_text_does_not_end_the_answer_before_its_least_length(self, engine, request_of, run):
        whole = run(answer(engine, request_of("Tell me about a baker.", max_new_tokens=30, ignore_eos=True)))
        stop = text_of(whole)[2:6]
        request = request_of(
            "Tell me about a baker.", max_new_tokens=30, min_new_tokens=25, ignore_eos=True, stop=(stop,)
        )
        events = run(answer(engine, request))
        assert stop in text_of(events)
        assert events[-1].usage.completion_tokens >= 25

    def test_a_seed_repeats_the_answer_alone_and_in_company(self, engine, request_of, run):
        def request(seed):
            return request_of("Tell me about a baker.", temperature=1.5, seed=seed, ignore_eos=True)

        async def together():
            return await asyncio.gather(*(answer(engine, request(seed)) for seed in range(5)))

        alone = [ids_of(run(answer(engine, request(seed)))) for seed in range(5)]
        assert [ids_of(events) for events in run(together())] == alone
        assert len({tuple(ids) for ids in alone}) > 1

    def test_greedy_answers_are_the_same_alone_and_in_company(self, engine, request_of, run):
        async def together():
            return await asyncio.gather(*(answer(engine, request_of(q, ignore_eos=True)) for q in QUESTIONS))

        alone = [ids_of(run(answer(engine, request_of(q, ignore_eos=True)))) for q in QUESTIONS]
        assert [ids_of(events) for events in run(together())] == alone

    def test_logprobs_are_those_of_the_tokens(self, engine, request_of, run):
        events = run(answer(engine, request_of(max_new_tokens=5, logprobs=2, ignore_eos=True)))
        logprobs = [found for event in events[:-1] for found in event.logprobs]
        assert [found.token_id for found in logprobs] == ids_of(events)
        for found in logprobs:
            assert len(found.top) == 2
            assert found.logprob <= 0
            assert found.top[0] == (found.token_id, pytest.approx(found.logprob, abs=1e-4))  # greedy takes the best
            assert found.top[0][1] >= found.top[1][1]

    scores_prompts = True

    def test_the_prompt_is_scored(self, engine, request_of, run):
        request = request_of("Tell me about a baker.", max_new_tokens=3, prompt_logprobs=2, ignore_eos=True)
        if not self.scores_prompts:
            with pytest.raises(InputError, match="cannot score prompts"):
                run(answer(engine, request))
            return
        plain = request_of("Tell me about a baker.", max_new_tokens=3, ignore_eos=True)

        async def in_company():
            others = (answer(engine, request_of(q, max_new_tokens=10, ignore_eos=True)) for q in QUESTIONS)
            return (await asyncio.gather(answer(engine, request), answer(engine, request), *others))[:2]

        alone = run(answer(engine, request))
        assert ids_of(alone) == ids_of(run(answer(engine, plain)))
        for events in (alone, *run(in_company())):
            scored = events[-1].prompt_logprobs
            assert [found.token_id for found in scored] == list(request.prompt_ids[1:])
            for found, expected in zip(scored, alone[-1].prompt_logprobs, strict=True):
                assert found.logprob == pytest.approx(expected.logprob, abs=1e-3)
                assert found.top[0][1] >= max(found.top[1][1], found.logprob)
        assert run(answer(engine, plain))[-1].prompt_logprobs == ()

    def test_an_answer_that_goes_on_keeps_its_first_space(self, engine, request_of, run, tiny_template):
        request = replace(request_of("Tell me about a baker.", max_new_tokens=8, ignore_eos=True), continues=True)
        events = run(answer(engine, request))
        decode = tiny_template.tokenizer.decode
        whole = decode([*request.prompt_ids, *ids_of(events)], skip_special_tokens=True)
        assert decode(request.prompt_ids, skip_special_tokens=True) + text_of(events) == whole

    def test_penalties_make_tokens_come_less_often(self, engine, request_of, run):
        def tokens(**penalties):
            request = request_of("Count to ten.", max_new_tokens=250, ignore_eos=True, **penalties)
            return ids_of(run(answer(engine, request)))

        free = len(set(tokens()))
        for name, value in (("presence_penalty", 2.0), ("frequency_penalty", 2.0), ("repetition_penalty", 1.5)):
            assert len(set(tokens(**{name: value}))) > free, name

    def test_a_passed_deadline_ends_the_answer(self, engine, request_of, run):
        finish = run(answer(engine, request_of(deadline=time.time() - 1)))[-1]
        assert (finish.reason, finish.usage.completion_tokens) == ("deadline", 0)

    def test_a_deadline_ends_an_answer_on_its_way(self, engine, request_of, run):
        request = request_of(deadline=time.time() + 0.15, max_new_tokens=1500, ignore_eos=True)
        finish = run(answer(engine, request))[-1]
        assert finish.reason == "deadline"
        assert finish.usage.completion_tokens < 1500

    def test_leaving_frees_the_engine(self, engine, request_of, run):
        async def leave():
            request = request_of(max_new_tokens=1500, ignore_eos=True)
            async with aclosing(engine.generate(request)) as events:
                await anext(events)
            for _ in range(100):
                if engine.stats().running == 0:
                    return True
                await asyncio.sleep(0.02)
            return False

        assert run(leave())

    def test_an_adapter_changes_the_answer_until_it_is_unloaded(self, engine, request_of, run, adapter_folder):
        async def everything():
            question = {"question": "Who are you?", "ignore_eos": True}
            await engine.load_adapter("a1", adapter_folder)
            await engine.load_adapter("a1", adapter_folder)
            assert engine.stats().adapters.count("a1") == 1
            adapted, plain = await asyncio.gather(
                answer(engine, request_of(adapter_digest="a1", **question)), answer(engine, request_of(**question))
            )
            await engine.unload_adapter("a1")
            await engine.unload_adapter("a1")
            gone = await answer(engine, request_of(adapter_digest="a1", **question))
            return ids_of(adapted), ids_of(plain), gone

        adapted, plain, gone = run(everything())
        assert adapted != plain
        assert plain == ids_of(run(answer(engine, request_of("Who are you?", ignore_eos=True))))
        assert gone[-1].reason == "error"
        assert "a1 is not loaded" in gone[-1].error

    def test_a_folder_without_an_adapter_is_refused(self, engine, run, tmp_path):
        with pytest.raises(IntegrityError):
            run(engine.load_adapter("bad", tmp_path))
        assert "bad" not in engine.stats().adapters

    def test_a_failing_request_fails_alone(self, engine, request_of, run):
        async def both():
            return await asyncio.gather(
                answer(engine, request_of(adapter_digest="missing")), answer(engine, request_of())
            )

        failed, fine = run(both())
        assert [event.reason for event in failed] == ["error"]
        assert fine[-1].reason in ("stop", "length")

    @pytest.mark.parametrize(
        ("prompt_ids", "words"), [((), "no tokens"), ((5,) * 100_000, "context"), ((10_000_000,), "vocabulary")]
    )
    def test_a_prompt_that_cannot_be_answered_is_refused(self, engine, request_of, run, prompt_ids, words):
        request = GenerationRequest(request_id="x", prompt_ids=prompt_ids, sampling=SamplingParams())
        with pytest.raises(InputError, match=words):
            run(answer(engine, request))

    def test_an_answer_is_bounded_by_the_context(self, engine, request_of, run):
        prompt = (5,) * (engine.context_length - 10)
        finish = run(answer(engine, request_of(prompt_ids=prompt, max_new_tokens=500, ignore_eos=True)))[-1]
        assert (finish.reason, finish.usage.completion_tokens) == ("length", 10)

    def test_load_is_counted(self, engine, request_of, run):
        before = engine.stats()
        run(answer(engine, request_of(max_new_tokens=7, ignore_eos=True)))
        after = engine.stats()
        assert after.completion_tokens - before.completion_tokens == 7
        assert (after.running, after.waiting, after.healthy) == (0, 0, True)

    def test_zz_a_closed_engine_refuses(self, engine, request_of, run):
        """Last by name, because the tests share one engine."""
        run(engine.close())
        with pytest.raises(EngineError, match="closed"):
            run(answer(engine, request_of()))


class ModelContract:
    """What engines promise besides that have a model, whose choice of tokens can be held to something.

    Stands behind EngineContract among the bases, so that these come before the test that closes the engine.
    """

    def test_an_answer_has_the_structure_that_was_asked_for(self, engine, request_of, run):
        schema = {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 8},
                "age": {"type": "integer", "minimum": 0, "maximum": 200},
            },
            "required": ["name", "age"],
            "additionalProperties": False,
        }
        wanted = {"structure": json_schema(schema), "max_new_tokens": 80, "temperature": 1.0}
        requests = [request_of(question, seed=seed, **wanted) for seed, question in enumerate(QUESTIONS)]
        free = request_of("Hello!")

        async def story():
            return await asyncio.gather(*(answer(engine, request) for request in [*requests, free]))

        *held, beside = run(story())
        for events in held:
            assert events[-1].reason == "stop", events[-1]
            found = json.loads(text_of(events))
            assert set(found) == {"name", "age"}
            assert isinstance(found["age"], int)
        assert text_of(beside) == text_of(run(answer(engine, free)))

    def test_a_bias_bars_and_forces_tokens(self, engine, request_of, run):
        first = ids_of(run(answer(engine, request_of(max_new_tokens=4))))[0]
        barred = ids_of(run(answer(engine, request_of(max_new_tokens=4, logit_bias=((first, -100.0),)))))
        assert first not in barred
        forced = request_of(max_new_tokens=3, temperature=1.0, seed=1, logit_bias=((400, 100.0),))
        assert ids_of(run(answer(engine, forced))) == [400, 400, 400]

    def test_a_choice_is_one_of_its_texts(self, engine, request_of, run):
        texts = ["a red kite", "a blue heron"]
        events = run(answer(engine, request_of(structure=choice(texts))))
        assert text_of(events) in texts
        assert events[-1].reason == "stop"

    def test_functions_are_called_where_they_must_be(self, engine, request_of, run):
        name = {"type": "object", "properties": {"name": {"enum": ["Ann", "Bob"]}}, "required": ["name"]}
        tools = [Tool("greet", "", name | {"additionalProperties": False}), Tool("leave", "", {"enum": [{}]})]
        calls = {write_call(ToolCall("greet", {"name": who})) for who in ("Ann", "Bob")}
        calls.add(write_call(ToolCall("leave", {})))
        must = tool_calls(tools, required=True, several=False)
        for seed in range(3):
            request = request_of(structure=must, seed=seed, temperature=1.0, max_new_tokens=100)
            events = run(answer(engine, request))
            assert text_of(events).strip() in calls
            assert events[-1].reason == "stop"
        may = tool_calls(tools, required=False, several=True)
        free, held = run(answer(engine, request_of())), run(answer(engine, request_of(structure=may)))
        assert text_of(held) == text_of(free)

    def test_a_structure_that_cannot_be_kept_is_refused(self, engine, request_of, run):
        with pytest.raises(InputError, match="strin"):
            run(answer(engine, request_of(structure=json_schema({"type": "strin"}))))

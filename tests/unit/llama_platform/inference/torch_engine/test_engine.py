import asyncio
import random
import time
from contextlib import aclosing

import pytest

from engine_contract import EngineContract, ModelContract, answer, ids_of
from llama_platform.errors import InputError, UnavailableError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import FinishEvent, GenerationRequest, SamplingParams
from llama_platform.inference.torch_engine.batch import PAGE
from llama_platform.inference.torch_engine.engine import TorchEngine


def make(tiny_config, tiny_template, **fields):
    return TorchEngine(
        tiny_config, tiny_template.tokenizer, threads=1, config=EngineConfig(**{"max_running": 8, **fields})
    )


def long_request(tokens=1500, **fields):
    sampling = SamplingParams(temperature=0.0, max_new_tokens=tokens, ignore_eos=True)
    return GenerationRequest(request_id="r", prompt_ids=(5, 6, 7), sampling=sampling, **fields)


@pytest.fixture(scope="module")
def engine(tiny_config, tiny_template):
    return make(tiny_config, tiny_template)


class TestTorchEngine(EngineContract, ModelContract):
    """The contract, on the CPU kernels."""


@pytest.fixture
def small(tiny_config, tiny_template, run):
    engine = make(tiny_config, tiny_template, max_running=2, max_waiting=2)
    yield engine
    run(engine.close())


def idle(engine):
    stats, pool = engine.stats(), engine._pool
    borrowed = [entry.users for entry in engine._adapters._loaded.values()]
    return (stats.running, stats.waiting, len(engine._answers)) == (0, 0, 0) and (
        pool.available == pool.pages and not any(borrowed)
    )


async def until_idle(engine):
    for _ in range(500):
        if idle(engine):
            return True
        await asyncio.sleep(0.01)
    return False


def test_a_thousand_random_cancels_leave_no_slot_and_no_memory(tiny_config, tiny_template, run, adapter_folder):
    engine = make(tiny_config, tiny_template, max_waiting=1000)
    choose = random.Random(1)

    async def leave_somewhere(number):
        adapter = "a" if number % 3 == 0 else None
        prompt = tuple(choose.randrange(4, 3000) for _ in range(choose.randrange(1, 120)))
        sampling = SamplingParams(temperature=0.8, max_new_tokens=200, ignore_eos=True, seed=number)
        request = GenerationRequest(
            request_id=str(number), prompt_ids=prompt, sampling=sampling, adapter_digest=adapter
        )
        async with aclosing(engine.generate(request)) as events:
            wanted = choose.randrange(0, 4)
            async with asyncio.timeout(None if wanted else choose.random() * 0.02) as limit:
                async for _ in events:
                    wanted -= 1
                    if wanted <= 0:
                        break
            return limit

    async def everything():
        await engine.load_adapter("a", adapter_folder)
        for start in range(0, 1000, 50):
            await asyncio.gather(*(leave_somewhere(start + n) for n in range(50)), return_exceptions=True)
        return await until_idle(engine)

    assert run(everything())
    assert run(answer(engine, long_request(5)))[-1].reason == "length"
    run(engine.close())


def test_a_full_queue_refuses_and_accepts_again(small, run):
    async def everything():
        running = [asyncio.ensure_future(answer(small, long_request(300))) for _ in range(4)]
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError, match="waiting already"):
            await answer(small, long_request(5))
        await asyncio.gather(*running)
        return await answer(small, long_request(5))

    assert run(everything())[-1].reason == "length"


def test_a_waiting_request_can_be_left_and_can_run_out_of_time(small, run):
    async def everything():
        running = [asyncio.ensure_future(answer(small, long_request(400))) for _ in range(2)]
        await asyncio.sleep(0.02)
        left = asyncio.ensure_future(answer(small, long_request(5)))
        late = asyncio.ensure_future(answer(small, long_request(5, deadline=time.time() + 0.05)))
        await asyncio.sleep(0.01)
        left.cancel()
        finish = (await late)[-1]
        assert (finish.reason, finish.usage.completion_tokens) == ("deadline", 0)
        await asyncio.gather(*running)
        return await until_idle(small)

    assert run(everything())


def test_a_more_urgent_request_is_begun_first(small, run):
    async def everything():
        order = []

        async def one(name, priority):
            async for _ in small.generate(long_request(30, priority=priority)):
                pass
            order.append(name)

        running = [asyncio.ensure_future(answer(small, long_request(200))) for _ in range(2)]
        await asyncio.sleep(0.02)
        waiting = [asyncio.ensure_future(one(*args)) for args in (("later", 0), ("urgent", 1))]
        await asyncio.gather(*running, *waiting)
        return order

    assert run(everything()) == ["urgent", "later"]


def test_a_broken_step_fails_what_runs_and_the_next_request_is_answered(small, run, monkeypatch):
    forward, calls = small._model.forward, []

    def break_once(batch, adapters):
        calls.append(batch)
        if len(calls) == 3:
            raise RuntimeError("a cosmic ray")
        return forward(batch, adapters)

    expected = ids_of(run(answer(small, long_request(20))))
    monkeypatch.setattr(small._model, "forward", break_once)
    failed = run(answer(small, long_request(20)))[-1]
    assert (failed.reason, small.stats().failures, small.stats().healthy) == ("error", 1, True)
    assert "cosmic ray" in failed.error
    assert ids_of(run(answer(small, long_request(20)))) == expected


def test_steps_that_break_again_and_again_show_in_health_and_refuse(small, run, monkeypatch):
    def broken(batch, adapters):
        raise RuntimeError("no device")

    monkeypatch.setattr(small._model, "forward", broken)
    reasons = [run(answer(small, long_request(5)))[-1].reason for _ in range(3)]
    assert reasons == ["error"] * 3
    assert not small.stats().healthy
    with pytest.raises(Exception, match="needs a restart"):
        run(answer(small, long_request(5)))


def test_an_exception_in_one_request_fails_that_one(small, run, monkeypatch):
    async def everything():
        bad, good = long_request(50), long_request(50)
        accept = small._accept

        def sabotage(request, mask):
            made = accept(request, mask)
            if request is bad:
                monkeypatch.setattr(made.detokenizer, "push", lambda _: 1 / 0)
            return made

        monkeypatch.setattr(small, "_accept", sabotage)
        return await asyncio.gather(answer(small, bad), answer(small, good))

    bad, good = run(everything())
    assert isinstance(bad[-1], FinishEvent)
    assert (bad[-1].reason, good[-1].reason) == ("error", "length")
    assert run(until_idle(small))


def test_loading_an_adapter_does_not_pause_the_others(small, run, adapter_folder):
    """While a load is held up for good, others go on and end."""

    async def everything():
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()
        pack = small._model.pack_adapter

        def slow(matrices):
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(30)
            return pack(matrices)

        small._model.pack_adapter = slow
        loading = asyncio.ensure_future(small.load_adapter("slow", adapter_folder))
        finish = (await answer(small, long_request(50)))[-1]
        assert "slow" not in small.stats().adapters
        gate.set()
        await loading
        return finish

    assert run(everything()).reason == "length"
    assert "slow" in small.stats().adapters


def test_one_wake_up_of_the_event_loop_per_step(small, run):
    async def everything():
        loop = asyncio.get_running_loop()
        wake_ups, plain = [], loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args: (wake_ups.append(args), plain(*args))[1]
        try:
            await asyncio.gather(*(answer(small, long_request(60)) for _ in range(2)))
        finally:
            del loop.call_soon_threadsafe
        return len(wake_ups)

    assert run(everything()) <= 70


def test_float16_on_a_cpu_is_refused(tiny_config, tiny_template):
    with pytest.raises(InputError, match="float16 needs a GPU"):
        make(tiny_config.model_copy(update={"dtype": "float16"}), tiny_template)


def test_answers_that_gave_way_for_want_of_pages_are_the_same(tiny_config, tiny_template, run, adapter_folder):
    # Room for one answer to its end and the beginnings of two.
    engine = make(tiny_config, tiny_template, max_running=4, kv_cache_mib=5, context_length=400, prefix_cache=False)
    room = engine._pool.pages * PAGE
    run(engine.load_adapter("d" * 64, adapter_folder))

    def asked(number):
        sampling = SamplingParams(
            temperature=0.0 if number < 2 else 1.0, seed=number, max_new_tokens=350, ignore_eos=True
        )
        return GenerationRequest(
            request_id=str(number), prompt_ids=tuple(range(5, 45 + number)), sampling=sampling,
            adapter_digest="d" * 64 if number % 2 else None,
        )  # fmt: skip

    async def together():
        return [ids_of(events) for events in await asyncio.gather(*(answer(engine, asked(n)) for n in range(4)))]

    async def alone():
        return [ids_of(await answer(engine, asked(n))) for n in range(4)]

    assert room < 4 * 390
    company = run(together())
    assert engine.stats().preempted > 0
    assert company == run(alone())
    assert run(until_idle(engine))
    run(engine.close())


def test_an_answer_that_was_thrown_out_for_another_tenant_is_the_same(tiny_config, tiny_template, run, adapter_folder):
    engine = make(tiny_config, tiny_template, max_running=2, max_waiting=20)
    run(engine.load_adapter("d" * 64, adapter_folder))

    def asked(number, tenant, seed=None):
        sampling = SamplingParams(
            temperature=0.0 if seed is None else 1.0, seed=seed, max_new_tokens=60, ignore_eos=True
        )
        return GenerationRequest(
            request_id=f"{tenant}{number}", prompt_ids=tuple(range(5, 45 + number)), sampling=sampling, tenant=tenant,
            adapter_digest="d" * 64 if number % 2 else None,
        )  # fmt: skip

    async def text(request, wait_s=0.0):
        await asyncio.sleep(wait_s)
        return ids_of(await answer(engine, request))

    async def together():
        flood = [text(asked(number, "a", seed)) for number, seed in ((0, None), (1, None), (2, 3), (3, 4))]
        others = [text(asked(number, "b"), 0.02 + 0.01 * number) for number in range(6)]
        return await asyncio.gather(*flood, *others)

    async def alone():
        found = [await text(asked(number, "a", seed)) for number, seed in ((0, None), (1, None), (2, 3), (3, 4))]
        return found + [await text(asked(number, "b")) for number in range(6)]

    thrown_out = []
    stop = engine._scheduler._stop

    def watched(sequence):
        thrown_out.append(sequence.generated < sequence.max_new_tokens)
        stop(sequence)

    engine._scheduler._stop = watched
    company = run(together())
    assert any(thrown_out)
    assert company == run(alone())
    assert run(until_idle(engine))
    run(engine.close())

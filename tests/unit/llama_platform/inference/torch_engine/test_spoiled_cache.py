"""An adapter whose values are finite but far too large spoils its own answers, and nobody else's."""

import asyncio

import pytest
from safetensors.torch import load_file, save_file

from engine_contract import answer
from llama_platform.errors import IntegrityError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import GenerationRequest, SamplingParams
from llama_platform.inference.torch_engine import loader
from llama_platform.inference.torch_engine.adapter_pool import MOST_FAULTS
from llama_platform.inference.torch_engine.engine import TorchEngine


@pytest.fixture
def huge(adapter_folder, tmp_path):
    for path in adapter_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: t * 1e30 if "lora_B" in name else t for name, t in tensors.items()}, path)
    return tmp_path


@pytest.fixture(params=["kernels", "torch"])
def engine(request, tiny_config, tiny_template, run, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(loader, "_on_cpu_kernels", lambda *_: None)
    config = EngineConfig(max_running=4, kv_cache_mib=2)  # a few pages, so that all are used again at once
    engine = TorchEngine(tiny_config, tiny_template.tokenizer, threads=1, config=config)
    yield engine
    run(engine.close())


def ask(number, adapter=None, length=45):
    prompt = tuple(10 + (number * 7 + place) % 1000 for place in range(length))
    sampling = SamplingParams(temperature=0.0, max_new_tokens=4, ignore_eos=True)
    return GenerationRequest(request_id=str(number), prompt_ids=prompt, sampling=sampling, adapter_digest=adapter)


def test_nobody_else_fails_after_an_adapter_with_huge_values(engine, huge, run):
    async def everything():
        await engine.load_adapter("huge", huge)
        bad = [(await answer(engine, ask(n, "huge")))[-1] for n in range(2)]
        good = await asyncio.gather(*(answer(engine, ask(100 + n)) for n in range(40)))
        return bad, [events[-1] for events in good]

    bad, good = run(everything())
    assert [(end.reason, "not finite" in end.error) for end in bad] == [("error", True)] * 2
    assert {end.reason for end in good} == {"length"}


def test_a_request_that_is_left_before_its_answer_spoils_nobody_either(engine, huge, run):
    async def everything():
        await engine.load_adapter("huge", huge)
        for number in range(20):
            leaving = asyncio.ensure_future(answer(engine, ask(number, "huge", 400)))
            await asyncio.sleep(0.01)
            leaving.cancel()
        good = await asyncio.gather(*(answer(engine, ask(100 + n)) for n in range(40)))
        return [events[-1] for events in good]

    assert {end.reason for end in run(everything())} == {"length"}


def test_such_an_adapter_is_refused_after_a_few_requests_and_shown(engine, huge, run):
    async def everything():
        await engine.load_adapter("huge", huge)
        for number in range(MOST_FAULTS):
            assert (await answer(engine, ask(number, "huge")))[-1].reason == "error"
        assert not engine.hold_adapter("huge")
        with pytest.raises(IntegrityError, match=r"refused: .* not finite"):
            await engine.load_adapter("huge", huge)

    run(everything())
    assert "not finite" in engine.stats().refused_adapters["huge"]
    assert engine.stats().adapters == ()


def test_pages_of_a_spoiled_prompt_are_not_shared(engine, huge, run):
    async def everything():
        await engine.load_adapter("huge", huge)
        first = await answer(engine, ask(1, "huge", 100))
        again = await answer(engine, ask(1, "huge", 100))
        return first[-1], again[-1]

    assert [end.usage.cached_tokens for end in run(everything())] == [0, 0]

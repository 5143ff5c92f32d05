"""Greedy tokens in float32 beside transformers and PEFT: architectures, adapters, chunks, prefixes, company."""

import asyncio
import random
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from engine_contract import answer, ids_of
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import GenerationRequest, SamplingParams
from llama_platform.inference.torch_engine import loader
from llama_platform.inference.torch_engine.engine import TorchEngine
from llama_platform.models.base_model import BaseConfig

SHAPE = {"hidden_size": 128, "intermediate_size": 336, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
ARCHITECTURES = {
    "mha": {},
    "gqa": {"num_key_value_heads": 2},
    "mqa with wide heads": {"num_key_value_heads": 1, "head_dim": 80},
    "tied": {"tie_word_embeddings": True, "num_key_value_heads": 2},
    "rope scaling": {"rope_parameters": LLAMA3_ROPE},
}
VARIANTS = [(4, ["q_proj", "v_proj"], False), (16, "all-linear", True), (20, ["down_proj", "k_proj", "up_proj"], False)]
PROMPTS, ADAPTERS, NEW = 56, 8, 10


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def folder(request, tmp_path_factory):
    torch.manual_seed(11)
    config = LlamaConfig(vocab_size=3072, max_position_embeddings=512, **(SHAPE | ARCHITECTURES[request.param]))
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def adapters(folder, tmp_path_factory):
    """Folders of adapters with random weights, and one PEFT model that has them all."""
    folders = []
    for number in range(ADAPTERS):
        torch.manual_seed(number)
        rank, targets, rslora = VARIANTS[number % len(VARIANTS)]
        config = LoraConfig(
            r=rank, lora_alpha=16, target_modules=targets, use_rslora=rslora, init_lora_weights=False,
            task_type="CAUSAL_LM",
        )  # fmt: skip
        folders.append(tmp_path_factory.mktemp(f"adapter{number}"))
        get_peft_model(LlamaForCausalLM.from_pretrained(folder), config).save_pretrained(folders[-1])
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder), folders[0], adapter_name="0")
    for number, path in enumerate(folders[1:], start=1):
        model.load_adapter(path, adapter_name=str(number))
    return folders, model.eval()


@pytest.fixture(scope="module", params=["CPU kernels", "torch's operations"])
def engine(request, folder, adapters, tiny_template, run):
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "CPU kernels":
            patch.setattr(loader, "_on_cpu_kernels", lambda *_: None)
        # 40 tokens of prompts in a step: most prompts are computed in several chunks.
        config = EngineConfig(max_running=16, max_waiting=200, max_step_tokens=40)
        base = BaseConfig(model=str(folder), dtype="float32")
        engine = TorchEngine(base, tiny_template.tokenizer, threads=1, config=config)
    for number, path in enumerate(adapters[0]):
        run(engine.load_adapter(str(number), path))
    yield engine
    run(engine.close())


def requests(adapter_of):
    choose = random.Random(3)
    beginning = [choose.randrange(4, 3072) for _ in range(70)]
    made = []
    for number in range(PROMPTS):
        own = [choose.randrange(4, 3072) for _ in range(choose.randrange(1, 90))]
        prompt = (beginning if number % 3 == 0 else []) + own
        sampling = SamplingParams(temperature=0.0, max_new_tokens=NEW, ignore_eos=True)
        made.append(
            GenerationRequest(
                request_id=str(number), prompt_ids=tuple(prompt), sampling=sampling, adapter_digest=adapter_of(number)
            )
        )
    return made


@torch.inference_mode()
def check(made, found, model_for):
    """Check that every token is the one that the reference finds most likely after the same tokens."""
    for request, tokens in zip(made, found, strict=True):
        assert len(tokens) == NEW
        logits = model_for(request.adapter_digest)(torch.tensor([[*request.prompt_ids, *tokens[:-1]]])).logits[0]
        assert logits[len(request.prompt_ids) - 1 :].argmax(dim=1).tolist() == tokens, request.request_id


def together(engine, made, run):
    async def everything():
        return await asyncio.gather(*(answer(engine, request) for request in made))

    return run(everything())


def test_base_in_company_in_chunks_and_from_the_prefix_cache(engine, base, run):
    made = requests(lambda _: None)
    first = together(engine, made, run)
    check(made, [ids_of(events) for events in first], lambda _: base)
    again = together(engine, made, run)
    assert [ids_of(events) for events in again] == [ids_of(events) for events in first]
    assert all(
        events[-1].usage.cached_tokens >= (len(request.prompt_ids) - 1) // 32 * 32
        for request, events in zip(made, again, strict=True)
    )


def test_alone_is_the_same(engine, base, run):
    made = requests(lambda _: None)[:12]
    check(made, [ids_of(run(answer(engine, request))) for request in made], lambda _: base)


def test_prompts_are_scored_as_by_transformers(engine, base, run):
    made = [replace(r, sampling=replace(r.sampling, prompt_logprobs=3)) for r in requests(lambda _: None)[:20]]
    for request, events in zip(made, together(engine, made, run), strict=True):
        with torch.inference_mode():
            expected = base(torch.tensor([request.prompt_ids])).logits[0].log_softmax(dim=-1)
        scored = events[-1].prompt_logprobs
        assert len(scored) == len(request.prompt_ids) - 1
        for place, found in enumerate(scored):
            assert found.logprob == pytest.approx(float(expected[place, request.prompt_ids[place + 1]]), abs=2e-4)
            assert [token for token, _ in found.top] == expected[place].topk(3).indices.tolist()


@pytest.mark.parametrize("kinds", [1, ADAPTERS])
def test_adapters_mixed_with_the_base_in_a_batch(engine, base, adapters, run, kinds):
    def model_for(digest):
        if digest is None:
            return base
        adapters[1].set_adapter(digest)
        return adapters[1]

    made = requests(lambda number: None if number % (kinds + 1) == kinds else str(number % (kinds + 1)))
    check(made, [ids_of(events) for events in together(engine, made, run)], model_for)

"""The engine contract on vLLM; run by `make test-vllm` in an environment where vLLM is installed."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from engine_contract import EngineContract, ModelContract, answer, ids_of
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import GenerationRequest, SamplingParams
from llama_platform.models.adapter_folder import WEIGHTS_FILE


@pytest.fixture(scope="module")
def engine(tiny_config, tiny_template):
    from llama_platform.inference.vllm_engine import VllmEngine

    config = EngineConfig(max_running=8, kv_cache_mib=256, max_adapter_rank=16)
    return VllmEngine(tiny_config, tiny_template.tokenizer, config)


@pytest.fixture
def opposite(adapter_folder, tmp_path):
    """The same adapter with its effect turned round."""
    folder = shutil.copytree(adapter_folder, tmp_path / "opposite")
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file(
        {name: -tensor if "lora_B" in name else tensor for name, tensor in tensors.items()}, folder / WEIGHTS_FILE
    )
    return folder


def test_an_adapter_that_gave_way_to_another_is_read_again(tiny_config, tiny_template, adapter_folder, opposite, run):
    from llama_platform.inference.vllm_engine import VllmEngine

    settings = {"max_running": 4, "kv_cache_mib": 64, "max_adapter_rank": 16, "vllm": {"max_loras": 1}}
    engine = VllmEngine(tiny_config, tiny_template.tokenizer, EngineConfig.model_validate(settings))

    async def in_turn():
        await engine.load_adapter("a", adapter_folder)
        await engine.load_adapter("b", opposite)
        answers = []
        for digest in ("a", "b", "a", None):
            sampling = SamplingParams(temperature=0.0, max_new_tokens=12, ignore_eos=True)
            request = GenerationRequest(
                request_id=f"r{len(answers)}", prompt_ids=(1, 300, 301), sampling=sampling, adapter_digest=digest
            )
            answers.append(ids_of(await answer(engine, request)))
        await engine.close()
        return answers

    first, other, again, plain = run(in_turn())
    assert first == again
    assert len({tuple(ids) for ids in (first, other, plain)}) == 3


class TestVllmEngine(EngineContract, ModelContract):
    """The contract, on vLLM."""

    scores_prompts = False  # not on the CPU

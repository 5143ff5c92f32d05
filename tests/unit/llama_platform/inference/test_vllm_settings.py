import json

import pytest

from llama_platform.errors import InputError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.gpu_memory import BASES
from llama_platform.inference.vllm_settings import check_memory, vllm_arguments
from llama_platform.models.base_model import BaseConfig


@pytest.fixture
def folder(tmp_path):
    def write(**more):
        (tmp_path / "config.json").write_text(json.dumps(BASES["7b"] | more))
        return tmp_path

    return write


def test_vllm_is_told_what_the_configuration_says(folder):
    config = EngineConfig.model_validate(
        {
            "max_running": 64, "max_waiting": 9, "context_length": 2048, "kv_cache_mib": 100, "prefix_cache": False,
            "max_adapter_rank": 100, "max_step_tokens": 16,
            "vllm": {"max_loras": 4, "gpu_memory_utilization": 0.8, "quantization": "fp8", "kv_cache_dtype": "fp8",
                     "speculative": {"method": "ngram", "num_speculative_tokens": 3}},
        }
    )  # fmt: skip
    told = vllm_arguments(folder(), BaseConfig(dtype="float16"), config, gpus=2)
    assert told == {
        "model": str(folder()), "dtype": "float16", "quantization": "fp8", "tensor_parallel_size": 2,
        "distributed_executor_backend": "mp", "max_model_len": 2048, "max_num_seqs": 64, "max_num_batched_tokens": 64,
        "gpu_memory_utilization": 0.8, "kv_cache_memory_bytes": 100 * 2**20, "kv_cache_dtype": "fp8",
        "enable_prefix_caching": False, "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
        "enable_lora": True, "max_loras": 4, "max_lora_rank": 128, "scheduling_policy": "priority",
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        "trust_remote_code": False, "disable_log_stats": True,
    }  # fmt: skip


def test_by_default_memory_is_reserved_for_eight_adapters_of_rank_64(folder):
    told = vllm_arguments(folder(), BaseConfig(), EngineConfig())
    assert (told["max_loras"], told["max_lora_rank"]) == (8, 64)
    assert told["distributed_executor_backend"] is None


@pytest.mark.parametrize(("field", "value"), [("weights", "int8"), ("products", "vector"), ("adapter_memory_mib", 100)])
def test_what_vllm_would_ignore_is_refused_by_name(folder, field, value):
    with pytest.raises(InputError, match=f"engine.{field}: is for our own engine"):
        vllm_arguments(folder(), BaseConfig(), EngineConfig(**{field: value}))


def test_heads_that_gpus_cannot_share_are_refused(folder):
    with pytest.raises(InputError, match=r"llama\.num_gpus: the base has 32 attention heads, which 3 GPUs"):
        vllm_arguments(folder(), BaseConfig(), EngineConfig(), gpus=3)


def test_memory_is_counted_as_it_will_be_taken(folder):
    a10g, config = 22.5, EngineConfig(max_adapter_rank=256)
    with pytest.raises(InputError, match="8 adapters of rank 256"):
        check_memory(folder(), a10g, 1, config)
    fewer = EngineConfig.model_validate({"max_adapter_rank": 256, "vllm": {"max_loras": 1}})
    check_memory(folder(), a10g, 1, fewer)
    check_memory(folder(), a10g, 2, config)  # spread over two
    for quantization in ("fp8", "bitsandbytes"):
        held = EngineConfig.model_validate({"max_adapter_rank": 128, "vllm": {"quantization": quantization}})
        check_memory(folder(), a10g, 1, held)


def test_bases_that_were_quantised_before_are_counted_by_their_bits(folder):
    config = EngineConfig(max_adapter_rank=128)
    with pytest.raises(InputError, match="weights"):
        check_memory(folder(), 17.0, 1, config)
    for stored in ({"quant_method": "awq", "bits": 4}, {"quant_method": "fp8"}, {"quant_method": "other"}):
        check_memory(folder(quantization_config=stored), 17.0, 1, config)


def test_room_is_needed_for_the_longest_request_that_is_served(folder):
    # 12.6 GiB of weights and 2.4 of adapters leave 2.7 of 21: 4,096 tokens need 2.0 of them, 16,384 need 8.0.
    check_memory(folder(), 21.3, 1, EngineConfig())
    with pytest.raises(InputError, match=r"a request of 16,384 tokens \(engine\.context_length\) needs 8\.0 GiB"):
        check_memory(folder(max_position_embeddings=16_384), 21.3, 1, EngineConfig())
    check_memory(folder(max_position_embeddings=16_384), 21.3, 1, EngineConfig(context_length=4096))
    with pytest.raises(InputError, match="a request of 4,096 tokens"):
        check_memory(folder(), 19.8, 1, EngineConfig())
    check_memory(folder(), 19.8, 1, EngineConfig(context_length=2048))


def test_less_of_the_gpu_has_room_for_less(folder):
    half = EngineConfig.model_validate({"vllm": {"gpu_memory_utilization": 0.5}})
    with pytest.raises(InputError, match="takes 50%, are too little"):
        check_memory(folder(), 22.5, 1, half)

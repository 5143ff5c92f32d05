"""The part of `jobs.gpu_check` that loads vLLM, for seconds and on tiny shapes."""

from jobs.gpu_check.shapes import TINY
from jobs.gpu_check.vllm_load import measure_vllm
from llama_platform.inference.config import EngineConfig
from llama_platform.models.random_base import write_random_base


def test_both_answer_under_load(tmp_path):
    folder = write_random_base(TINY, tmp_path)
    config = EngineConfig(max_running=4, kv_cache_mib=64, max_adapter_rank=8, context_length=512)
    found = measure_vllm(folder, config, seconds=2, clients=4)
    for name in ("ours", "bare"):
        assert found[f"{name}_tokens_per_s"] > 0
        assert 0 < found[f"{name}_first_token_p50_ms"] <= found[f"{name}_first_token_worst_ms"]
        assert found[f"{name}_start_s"] > 0
    assert found["vs_bare"] > 0

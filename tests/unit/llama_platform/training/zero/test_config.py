from pathlib import Path

from llama_platform.config import load_config
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.zero.config import deepspeed_config

CONFIGS = Path(__file__).parents[5] / "jobs/configs"


def test_deepspeed_configuration_follows_ours():
    config = load_config(FinetuneConfig, CONFIGS / "llama2_7b_lora.yaml").training
    made = deepspeed_config(config, accumulation_steps=2, trained=33_554_432)
    assert made["zero_optimization"]["stage"] == 2
    assert (made["bf16"]["enabled"], made["fp16"]["enabled"]) == (True, False)
    assert (made["train_micro_batch_size_per_gpu"], made["gradient_accumulation_steps"]) == (4, 2)


def test_buffers_have_room_for_what_is_trained_and_no_more():
    config = load_config(FinetuneConfig, CONFIGS / "llama2_7b_lora.yaml").training
    zero = deepspeed_config(config, accumulation_steps=2, trained=33_554_432)["zero_optimization"]
    assert (zero["reduce_bucket_size"], zero["allgather_bucket_size"]) == (33_554_432, 33_554_432)

import re
from pathlib import Path

import pytest

from llama_platform.config import load_config
from llama_platform.errors import ConfigError
from llama_platform.training.config import FinetuneConfig

CONFIGS = Path(__file__).parents[4] / "jobs/configs"


def test_the_7b_defaults_are_the_documented_ones():
    config = load_config(FinetuneConfig, CONFIGS / "llama2_7b_lora.yaml")
    assert config.base.model == "meta-llama/Llama-2-7b-hf"
    lora, training = config.lora, config.training
    assert (lora.r, lora.alpha, lora.dropout, lora.targets) == (64, 16, 0.1, ("q_proj", "v_proj"))
    assert (training.micro_batch_size, training.accumulation_steps) == (4, 4)
    assert (training.learning_rate, training.epochs, config.data.max_tokens) == (2e-4, 3, 512)
    assert training.precision in ("bfloat16", "float16")


def test_every_training_configuration_fits_the_serving_one_that_its_header_names():
    from serve_apps.config import AppConfig

    paired = []
    for file in sorted(CONFIGS.glob("*lora*.yaml")):
        header = re.search(r"^# Served by (serve_apps/configs/\S+)$", file.read_text(), re.MULTILINE)
        assert header, f"{file.name}: its header names no serving configuration"
        trained = load_config(FinetuneConfig, file)
        served = load_config(AppConfig, CONFIGS.parents[1] / header[1])
        for name in ("model", "revision", "prompt_style"):
            assert getattr(trained.base, name) == getattr(served.base, name), (file.name, name)
        assert served.adapter == trained.adapter.name
        paired.append(file.name)
    assert paired == ["llama2_7b_lora.yaml", "tiny_lora_cpu.yaml"]


def test_every_configuration_file_loads():
    from llama_platform.batch.plan import BatchConfig
    from rag.indexing.build import IndexConfig

    others = {"index.yaml": IndexConfig, "batch_local.yaml": BatchConfig}
    files = sorted(CONFIGS.rglob("*.yaml"))
    assert len(files) == 4
    for file in files:
        load_config(others.get(file.name, FinetuneConfig), file)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.precision=float16", "needs a GPU"),
        ("training.early_stopping_patience=2", "needs training.evaluate_every"),
        ("lora.targets=[q_proj,lm_head]", "lora.targets"),
        ("training.zero_stage=4", "training.zero_stage"),
        ("lora.dropout=1.5", "less than 1"),
        ("training.publish=best", "needs training.evaluate_every"),
        ("training.min_workers=3", "more than training.workers"),
        ("training.offload=optimizer_and_base", "needs training.zero_stage 3"),
        ("training.schedule=square", "training.schedule"),
    ],
)
def test_impossible_combinations_are_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        load_config(FinetuneConfig, CONFIGS / "tiny_lora_cpu.yaml", [override])


def test_combinations_that_need_two_changes():
    def problems(*overrides):
        with pytest.raises(ConfigError) as caught:
            load_config(FinetuneConfig, CONFIGS / "llama2_7b_lora.yaml", overrides)
        return str(caught.value)

    assert "needs training.zero_stage 1, 2 or 3" in problems("training.zero_stage=0", "training.offload=optimizer")
    assert "4-bit weights cannot be sharded" in problems("base.quantize=nf4", "training.zero_stage=3")
    assert "cannot be divided over training.min_workers 3" in problems("training.min_workers=3")


def test_float16_needs_a_stage_that_scales_the_loss():
    with pytest.raises(ConfigError, match=r"needs training\.zero_stage 1, 2 or 3"):
        load_config(FinetuneConfig, None, ["training.precision=float16", "training.zero_stage=0"])

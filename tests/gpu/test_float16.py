"""float16 training in the ZeRO stages that shard has the losses of float32, although its first steps overflow."""

import pytest
import torch
import torch.distributed as dist

from jobs.gpu_check.shapes import TINY, random_chats
from llama_platform.models.adapter import attach_lora
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.models.random_base import random_base
from llama_platform.training.batching.batches import TrainingData
from llama_platform.training.config import TrainingConfig
from llama_platform.training.step import TrainingStep, prepare_for_training
from llama_platform.training.zero.engine import init_deepspeed, start_engine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
STEPS = 8


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    place = tmp_path_factory.mktemp("group") / "file"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
            patch.setenv(name, value)
        dist.init_process_group("nccl", init_method=f"file://{place}", rank=0, world_size=1)
        init_deepspeed(2, torch.device("cuda", 0))
        yield
        dist.destroy_process_group()


def losses(precision, stage):
    device = torch.device("cuda", 0)
    training = TrainingConfig(workers=1, use_gpu=True, precision=precision, zero_stage=stage)
    model = attach_lora(random_base(TINY, torch.float32, device).to(getattr(torch, precision)), LoraSettings(), seed=0)
    module = prepare_for_training(model, gradient_checkpointing=False, packed=True, device=device)
    step = TrainingStep(start_engine(module, training, training.accumulation_steps), device, seed=0)
    data = TrainingData(random_chats(16, 128, TINY["vocab_size"]), 0, 4, "packed", seed=0)
    found = []
    for number in range(STEPS):
        part = data.step(number, 16, 0, 1)
        total = step.run(number, part.batches, part.count, part.trained_tokens, 1e-2)
        found.append(total.item() / part.trained_tokens)
    return found, step.grad_norm


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_learns_as_float32_does(process_group, stage):
    expected, norm = losses("float32", 2)
    found, of_halves = losses("float16", stage)
    assert expected[-1] < expected[0] - 0.05
    assert found == pytest.approx(expected, abs=0.02)
    assert of_halves == pytest.approx(norm, rel=0.1)

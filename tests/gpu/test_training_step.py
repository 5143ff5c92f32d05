"""The training step with the shapes of Llama-2-7B, random weights, bfloat16, on one GPU, without Ray.

make test-gpu
"""

import json
import time

import pytest
import torch

from llama_platform.data.packing import pack
from llama_platform.models.adapter import attach_lora
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.models.random_base import LLAMA_2_7B, random_base
from llama_platform.training.step import prepare_for_training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def llama(layers, dtype=torch.bfloat16):
    return random_base(LLAMA_2_7B | {"num_hidden_layers": layers}, dtype, torch.device("cuda"))


def batch(lengths):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in lengths:
        ids = torch.randint(10, 32_000, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "trained": [place >= length // 2 for place in range(length)]})
    return {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in pack(rows).items()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_chats_have_the_loss_and_gradients_of_chats_alone(checkpointing):
    lengths, gradients, losses = [37, 300, 5, 130], [], []
    for groups in ([lengths], [[length] for length in lengths]):
        model = attach_lora(llama(2, torch.float32), LoraSettings(r=8, dropout=0.0), seed=0).cuda()
        module = prepare_for_training(
            model, gradient_checkpointing=checkpointing, packed=True, device=torch.device("cuda")
        )
        whole, start, total = batch(lengths), 0, 0.0
        for group in groups:
            size = sum(group)
            part = {k: v[:, start : start + size] for k, v in whole.items() if k != "lengths"}
            nll = module(**part, lengths=tuple(group))
            nll.backward()
            total, start = total + nll.item(), start + size
        losses.append(total)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for together, alone in zip(*gradients, strict=True):
        assert torch.allclose(together, alone, rtol=1e-2, atol=1e-3)


def test_a_step_of_7b_fits_and_learns(capsys):
    model = attach_lora(llama(32), LoraSettings(), seed=0).cuda().bfloat16()
    module = prepare_for_training(model, gradient_checkpointing=True, packed=True, device=torch.device("cuda"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    rows, losses = batch([512, 300, 150, 150, 90, 400, 200, 246]), []
    torch.cuda.reset_peak_memory_stats()
    weights = torch.cuda.memory_allocated()
    for step in range(6):
        if step == 1:
            torch.cuda.synchronize()
            start = time.perf_counter()
        nll = module(**rows)
        (nll / 1024).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(nll.item() / 1024)
    torch.cuda.synchronize()
    assert losses[-1] < losses[0]
    assert torch.cuda.max_memory_allocated() < 20 * 2**30  # an A10G has 22.5 GiB, of which CUDA itself takes some
    speed = 5 * rows["input_ids"].numel() / (time.perf_counter() - start)
    figures = {
        "gpu": torch.cuda.get_device_name(),
        "tokens_per_s": round(speed),
        "weights_gib": round(weights / 2**30, 2),
        "peak_above_weights_gib": round((torch.cuda.max_memory_allocated() - weights) / 2**30, 2),
    }
    with capsys.disabled():
        print(json.dumps(figures))

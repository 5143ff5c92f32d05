"""The peer of the check: the same training steps with transformers and PEFT alone."""

import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from jobs.gpu_check.machine import Figures
from jobs.gpu_check.parts import STEPS, WARM_UP, peak, reset_peak, speed
from jobs.gpu_check.shapes import random_chats
from llama_platform.data.tokenize import collate
from llama_platform.device import assigned_device
from llama_platform.models.random_base import random_base
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.step import to_device


def train_plainly(config: FinetuneConfig, shape: dict[str, int]) -> Figures:
    """Run the same steps with transformers, PEFT and torch's AdamW alone, chats padded, on one device."""
    training, device = config.training, assigned_device()
    wanted = config.lora
    lora = LoraConfig(
        r=wanted.r,
        lora_alpha=wanted.alpha,
        lora_dropout=wanted.dropout,
        target_modules=wanted.targets if isinstance(wanted.targets, str) else list(wanted.targets),
        task_type="CAUSAL_LM",
    )
    base = random_base(shape, getattr(torch, training.precision), device)
    model: Any = get_peft_model(base, lora)
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=training.learning_rate)
    size = training.micro_batch_size
    rows = list(
        random_chats(
            size * training.accumulation_steps * (STEPS + WARM_UP), config.data.max_tokens, shape["vocab_size"]
        )
    )
    seconds = []
    model.train()
    reset_peak(device)
    for _ in range(STEPS + WARM_UP):
        start, tokens = time.perf_counter(), 0
        for _ in range(training.accumulation_steps):
            chats, rows = rows[:size], rows[size:]
            tokens += sum(chat["length"] for chat in chats)
            loss = model(**to_device(collate(chats, 0), device)).loss
            (loss / training.accumulation_steps).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append((tokens, time.perf_counter() - start))
    return speed(seconds) | peak(device)

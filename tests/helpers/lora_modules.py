"""Small models with LoRA, ready for training, and their gradients."""

import torch

from llama_platform.models.adapter import attach_lora
from llama_platform.models.base_model import load_base_model
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.training.step import prepare_for_training


def lora(tiny_config, *, checkpointing=False, packed=False, dropout=0.0):
    settings = LoraSettings(r=4, targets="all-linear", dropout=dropout)
    model = attach_lora(load_base_model(tiny_config), settings, seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model, prepare_for_training(model, gradient_checkpointing=checkpointing, packed=packed)


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

import asyncio

import pytest


@pytest.fixture(scope="module")
def run():
    """Run a coroutine in the module's event loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def adapter_folder(tiny_config, tmp_path_factory):
    """A PEFT adapter of the tiny base with random weights that are seen in its answers."""
    import torch
    from peft import LoraConfig, get_peft_model

    from llama_platform.models.base_model import load_base_model

    torch.manual_seed(7)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(load_base_model(tiny_config), config).save_pretrained(folder)
    return folder

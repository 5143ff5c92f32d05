import pytest
import torch

from llama_platform.errors import InputError
from llama_platform.models.adapter import attach_lora, save_adapter
from llama_platform.models.base_model import load_base_model
from llama_platform.models.lora_settings import LoraSettings
from llama_platform.models.merge import merge_adapter


@pytest.fixture
def adapter(tiny_config, tmp_path):
    model = attach_lora(load_base_model(tiny_config), LoraSettings(r=8, targets="all-linear"), seed=0)
    torch.manual_seed(0)
    state = {n: torch.randn_like(p) * 0.05 for n, p in model.named_parameters() if p.requires_grad}
    save_adapter(model, state, tmp_path / "adapter", {"base": "tiny"})
    return tmp_path / "adapter"


def test_the_merged_model_says_what_base_and_adapter_say(tiny_config, adapter, tmp_path):
    gap = merge_adapter(tiny_config, adapter, tmp_path / "merged", "float32", ("Who are you?", "Why?"))
    assert gap.largest < 1e-3
    assert gap.same_top_token == 1
    half = merge_adapter(tiny_config, adapter, tmp_path / "half", "bfloat16", ("Who are you?", "Why?"))
    assert gap.largest < half.largest < 2
    merged = load_base_model(tiny_config.model_copy(update={"model": str(tmp_path / "merged")}))
    base = load_base_model(tiny_config)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(merged.get_parameter(name), base.get_parameter(name))


def test_a_folder_with_something_in_it_is_not_overwritten(tiny_config, adapter, tmp_path):
    with pytest.raises(InputError, match="not empty"):
        merge_adapter(tiny_config, adapter, adapter, "float32", ("hi",))

import pytest
import torch

from llama_platform.errors import InputError
from llama_platform.models.adapter import LoraSettings, attach_lora, save_adapter
from llama_platform.models.base_model import load_base_model
from llama_platform.models.merge import merge_adapter
from llama_platform.models.model_card import write_model_card


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


def test_the_model_card_has_what_the_hub_reads(tmp_path):
    import yaml

    facts = {
        "base": "meta-llama/Llama-2-7b-hf",
        "base_revision": None,
        "dataset": {"name": "chats", "version": 3, "digest": "ab" * 32},
        "run_id": "run-1",
        "prompt_style": "plain",
        "prompt_fingerprint": "cd" * 32,
        "metrics": {"step": 5, "tokens": 1234, "global_batch_size": 16, "loss_first": 2.0, "loss_last": 1.0, "eval_loss": None},
        "settings": {
            "lora": {"r": 64, "alpha": 16, "dropout": 0.1, "targets": ["q_proj", "v_proj"], "rslora": False},
            "training": {"learning_rate": 2e-4, "precision": "bfloat16"},
        },
    }  # fmt: skip
    write_model_card(tmp_path, "support", facts)
    text = (tmp_path / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["base_model"] == "meta-llama/Llama-2-7b-hf"
    assert "# support" in body
    assert "chats@3" in body
    assert "q_proj, v_proj" in body
    assert "### Human: question" in body

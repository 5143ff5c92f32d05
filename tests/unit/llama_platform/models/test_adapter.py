import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from llama_platform.errors import EngineError, IntegrityError
from llama_platform.models.adapter import (
    AdapterSet,
    LoraSettings,
    attach_lora,
    open_adapter,
    save_adapter,
    trainable_parameters,
)
from llama_platform.models.adapter_folder import check_adapter
from llama_platform.models.base_model import load_base_model

IDS = torch.arange(10, 20).view(1, 10)


@pytest.fixture
def model(tiny_config):
    return attach_lora(load_base_model(tiny_config), LoraSettings(r=4, dropout=0.0), seed=0)


def state_of(model, scale=0.02):
    torch.manual_seed(1)
    return {name: torch.randn_like(p) * scale for name, p in trainable_parameters(model).items()}


@pytest.fixture
def folder(model, tmp_path):
    save_adapter(model, state_of(model), tmp_path / "adapter", {"prompt_fingerprint": "f"})
    return tmp_path / "adapter"


def test_saved_adapter_has_the_plain_layout_and_gives_equal_logits(tiny_config, model, folder):
    from peft import PeftModel

    assert {p.name for p in folder.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "training_args.json",
    }
    assert not list(folder.glob("*.bin"))
    model.load_state_dict(state_of(model), strict=False)
    opened = PeftModel.from_pretrained(load_base_model(tiny_config), folder)
    with torch.no_grad():
        assert torch.allclose(opened(IDS).logits, model.eval()(IDS).logits, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, float("nan")])
def test_an_adapter_that_changes_nothing_or_is_not_finite_is_refused(model, tmp_path, scale):
    with pytest.raises(IntegrityError, match=r"zero|not finite"):
        save_adapter(model, state_of(model, scale), tmp_path / "bad", {})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "adapter_model.safetensors").unlink(), "missing"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"\x80garbage"), "not a safetensors file"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "adapter_config.json").unlink(), "missing"),
        (lambda f: (f / "adapter_config.json").write_text('{"peft_type": "IA3"}'), "only LORA"),
        (lambda f: save_file({"x.lora_A.weight": torch.zeros(0)}, f / "adapter_model.safetensors"), "empty"),
    ],
)
def test_damaged_folders_are_refused_by_name(folder, damage, words):
    damage(folder)
    with pytest.raises(IntegrityError, match=words):
        check_adapter(folder)


def test_an_adapter_of_another_shape_does_not_fit(tiny_config, folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    base = load_base_model(tiny_config)
    with torch.no_grad():
        before = base(IDS).logits
        with pytest.raises(IntegrityError, match="does not fit"):
            open_adapter(base, folder, "a")
        assert torch.equal(base(IDS).logits, before)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 2}),
        ("init_lora_weights", "pissa"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(tiny_config, folder, option, value):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {option: value}))
    with pytest.raises(IntegrityError, match=f"sets {option}"):
        open_adapter(load_base_model(tiny_config), folder, "a")


def test_tensors_of_other_layers_are_refused(tiny_config, folder):
    weights = load_file(folder / "adapter_model.safetensors")
    renamed = {name.replace("layers.0", "layers.40"): tensor for name, tensor in weights.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    with pytest.raises(IntegrityError, match="no such layer"):
        open_adapter(load_base_model(tiny_config), folder, "a")


def test_adapters_of_a_set_answer_each_for_itself(tiny_config, model, folder, tmp_path):
    save_adapter(model, state_of(model, 0.05), tmp_path / "other", {})
    base = load_base_model(tiny_config)
    with torch.no_grad():
        plain = base(IDS).logits
        adapters = AdapterSet(base)
        adapters.load("support.v1@2", folder)
        adapters.load("bbb", tmp_path / "other")
        adapters.load("support.v1@2", folder)
        assert adapters.digests() == ("support.v1@2", "bbb")
        logits = {}
        for name in ("support.v1@2", "bbb", None):
            with adapters.active(name) as active:
                logits[name] = active(IDS).logits
    assert torch.allclose(logits[None], plain, atol=1e-5)
    assert not torch.allclose(logits["support.v1@2"], logits["bbb"], atol=1e-3)
    adapters.unload("support.v1@2")
    with pytest.raises(EngineError, match="not loaded"), adapters.active("support.v1@2"):
        pass
    adapters.unload("bbb")
    with torch.no_grad(), adapters.active(None) as active:
        assert torch.allclose(active(IDS).logits, plain, atol=1e-5)

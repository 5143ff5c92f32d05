import importlib.util
import json
import shutil

import pytest
import torch

from llama_platform.errors import InputError
from llama_platform.models.base_model import (
    BaseConfig,
    _quantized,
    base_folder,
    check_quantization,
    end_ids,
    load_template,
    max_positions,
)


@pytest.fixture
def copy(tiny_config, tmp_path):
    return shutil.copytree(base_folder(tiny_config), tmp_path / "base")


def test_a_local_folder_is_the_base_itself(copy):
    assert base_folder(BaseConfig(model=str(copy))) == copy


def test_a_base_that_is_not_there_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"(?s)base\.model 'nobody/nothing': .*HF_TOKEN"):
        load_template(BaseConfig(model="nobody/nothing"))


def test_a_tokenizer_without_an_end_is_refused(copy):
    path = copy / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "eos_token": None}))
    with pytest.raises(InputError, match="no BOS or EOS"):
        load_template(BaseConfig(model=str(copy)))


def test_further_end_tokens_come_from_the_generation_config(copy):
    template = load_template(BaseConfig(model=str(copy)))
    before = end_ids(copy, template.tokenizer)
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    assert end_ids(copy, template.tokenizer) == before | {7, 8}


def test_nf4_needs_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="bitsandbytes"):
        check_quantization(BaseConfig(quantize="nf4"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nf4_is_set_up_as_qlora_is(dtype, monkeypatch):
    """4-bit NormalFloat, quantised twice, computed in the precision of the training (Dettmers et al., 2023)."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    found = _quantized(BaseConfig(quantize="nf4", dtype=dtype), torch.device("cpu"))
    settings = found["quantization_config"]
    assert found["device_map"] == {"": torch.device("cpu")}
    assert (settings.load_in_4bit, settings.bnb_4bit_quant_type) == (True, "nf4")
    assert settings.bnb_4bit_use_double_quant
    assert settings.bnb_4bit_compute_dtype == getattr(torch, dtype)


def test_end_tokens_of_the_models_own_config_count(copy):
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [9]}))
    assert 9 in end_ids(copy, load_template(BaseConfig(model=str(copy))).tokenizer)


def test_the_longest_input_is_told_by_the_config(copy, tiny_config):
    assert max_positions(tiny_config) == 2048
    (copy / "config.json").write_text("{}")
    assert max_positions(BaseConfig(model=str(copy))) is None

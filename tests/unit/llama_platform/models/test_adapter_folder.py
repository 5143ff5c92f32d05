"""Adapters from outside: whatever a folder says, it costs an IntegrityError and no memory."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from llama_platform.errors import IntegrityError
from llama_platform.inference.torch_engine.adapter_pool import read_adapter
from llama_platform.inference.torch_engine.architecture import read_architecture
from llama_platform.models.adapter_folder import check_adapter
from llama_platform.models.base_model import base_folder

LORA_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def folder(adapter_folder, tmp_path):
    for path in adapter_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def set_config(folder, text):
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    name, _, value = text.partition("=")
    values[name] = "PLACE"
    path.write_text(json.dumps(values).replace('"PLACE"', value))


def write_header(folder, header, size=0):
    """A safetensors file of any header; its data is a hole of `size` bytes."""
    text = json.dumps(header).encode()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)


@pytest.mark.parametrize(
    "setting",
    [
        "lora_alpha=null", 'lora_alpha="4"', "lora_alpha=true", "lora_alpha=[1]", "lora_alpha=-4", "lora_alpha=0",
        "lora_alpha=NaN", "lora_alpha=Infinity", "lora_alpha=1e308", "lora_alpha=1" + "0" * 400,
        "r=null", 'r="x"', "r=0", "r=2.9", "r=1e400", "r=true", "r=2000",
    ],
)  # fmt: skip
def test_rank_and_alpha_are_usable_numbers(folder, setting):
    set_config(folder, setting)
    with pytest.raises(IntegrityError, match=r"adapter_config\.json"):
        check_adapter(folder)


def test_deep_nesting_is_an_error_of_the_file(folder):
    (folder / "adapter_config.json").write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(IntegrityError, match="nested too deeply"):
        check_adapter(folder)


@pytest.mark.parametrize("dtype", ["F4", "I8", "BOOL", "C64", "F8_E4M3", "U64", "F64"])
def test_types_that_are_no_weights_are_refused(folder, dtype):
    write_header(folder, {LORA_A: {"dtype": dtype, "shape": [8, 256], "data_offsets": [0, 2048]}}, 2048)
    with pytest.raises(IntegrityError):
        check_adapter(folder)


@pytest.mark.parametrize("shape", [[0, 2**62], [0, 2**64 - 1], [0] * 100, [0], []])
def test_shapes_that_hold_nothing_are_refused(folder, shape):
    size = 4 if shape == [] else 0
    write_header(folder, {LORA_A: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}, size)
    with pytest.raises(IntegrityError):
        check_adapter(folder)


def test_a_large_sparse_file_takes_no_memory(folder):
    import psutil

    size = 2 * 2**30
    write_header(folder, {LORA_A: {"dtype": "F32", "shape": [8, 2**26], "data_offsets": [0, size]}}, size)
    process = psutil.Process()
    before = process.memory_info()
    with pytest.raises(IntegrityError, match="every lora_B is zero or absent"):
        check_adapter(folder)
    after = process.memory_info()
    # Pages of the mapped file are the page cache's; what this process took itself stays small.
    assert (after.rss - after.shared) - (before.rss - before.shared) < 512 * 2**20


def test_a_tensor_of_another_rank_than_the_configuration_is_refused(folder):
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(weights | {LORA_A: torch.ones(9, 256)}, folder / "adapter_model.safetensors")
    with pytest.raises(IntegrityError, match="does not fit the rank 8"):
        check_adapter(folder)


def test_weights_that_the_scale_makes_infinite_are_refused(folder, tiny_config):
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({n: t * 1e37 if "lora_B" in n else t for n, t in weights.items()}, folder / "adapter_model.safetensors")
    set_config(folder, "lora_alpha=1e6")
    with pytest.raises(IntegrityError, match="not finite once scaled"):
        read_adapter(folder, read_architecture(base_folder(tiny_config)), 64)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_pipes_and_links_are_refused_at_once(folder, name, make):
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(IntegrityError):
        check_adapter(folder)

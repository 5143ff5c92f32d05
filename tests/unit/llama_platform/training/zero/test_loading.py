"""A base that is sharded is never whole in a worker's memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llama_platform.models.random_base import LLAMA_2_7B, random_base

PROGRAM = Path(__file__).with_name("loading_program.py")


def load(folder, meeting, way):
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(rank), "2", str(meeting / way), str(folder), way],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=240) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("base")
    shape = {**LLAMA_2_7B, "num_hidden_layers": 2, "vocab_size": 256}
    random_base(shape, torch.bfloat16, torch.device("cpu")).save_pretrained(made)
    return made


def test_a_worker_needs_the_memory_of_its_part(folder, tmp_path):
    peaks = {}
    for way in ("whole", "sharded"):
        found = []
        for code, output, errors in load(folder, tmp_path, way):
            assert code == 0, errors[-3000:]
            found.append(json.loads(output.splitlines()[-1]))
        assert [one["different"] for one in found] == [[], []]
        peaks[way] = max(one["mib"] for one in found)
    print("MiB of a worker:", peaks)
    assert peaks["sharded"] <= 0.65 * peaks["whole"], peaks


def test_a_tensor_that_is_missing_is_named_by_every_worker(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    for code, _, errors in load(tmp_path, tmp_path, "sharded"):
        assert code == 1
        assert "InputError" in errors
        assert "tensor model.norm.weight is missing" in errors

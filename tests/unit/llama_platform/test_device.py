import pytest
import ray
import torch

from llama_platform import device
from llama_platform.errors import InputError


@pytest.fixture
def machine_with_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def assign(monkeypatch, ids, visible):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: ids)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("ids", "visible", "expected"),
    [
        ([], "", "cpu"),
        ([], "0,1", "cpu"),
        ([3], "3", "cuda:0"),
        (["1"], "0,1", "cuda:1"),
        ([2], "", "cuda:2"),
        (["GPU-5f1c"], "GPU-5f1c", "cuda:0"),
    ],
)
def test_what_ray_assigned_is_ones_own(machine_with_gpus, monkeypatch, ids, visible, expected):
    assign(monkeypatch, ids, visible)
    assert str(device.assigned_device()) == expected


def test_outside_ray_it_is_the_cpu(machine_with_gpus, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert device.assigned_device() == device.CPU


def test_a_command_follows_its_configuration(machine_with_gpus):
    assert device.configured_device(use_gpu=False) == device.CPU
    assert str(device.configured_device(use_gpu=True)) == "cuda:0"


def test_a_gpu_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"no GPU; --set training\.use_gpu=false"):
        device.configured_device(use_gpu=True)

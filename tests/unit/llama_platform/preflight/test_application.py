import json
from pathlib import Path

import pytest

from llama_platform.errors import InputError
from llama_platform.preflight import application
from llama_platform.preflight.application import check_application, read_application

CONFIGS = Path(__file__).parents[4] / "serve_apps/configs"
GOOD = {"base": {"model": "tiny"}, "http_options": {"host": "127.0.0.1"}, "limits": {"request_timeout_s": 30}}


def levels(settings, gpu=None, environ=None):
    return {finding.check: finding.level for finding in check_application(settings, gpu, environ or {})}


@pytest.mark.parametrize("name", ["gpu.yaml", "local.yaml", "app_gpu.yaml", "app_local.yaml", "app_container.yaml"])
def test_the_shipped_files_are_well(name):
    found = levels(read_application(CONFIGS / name), "A10G", {"HF_TOKEN": "x"})
    assert "error" not in found.values()


def test_what_serve_deploy_gives_beside_the_file_counts(tmp_path):
    (tmp_path / "app.yaml").write_text("base: {model: tiny, dtype: float32}\nheartbeat_s: 15\n")
    (tmp_path / "deploy.yaml").write_text(
        "http_options: {host: 0.0.0.0}\napplications: [{args: {config: app.yaml, base: {dtype: bfloat16}}}]\n"
    )
    found = read_application(tmp_path / "deploy.yaml")
    assert found["base"] == {"model": "tiny", "dtype": "bfloat16"}
    assert levels(found)["access"] == "error"


def test_a_gated_base_needs_its_token():
    settings = {**GOOD, "base": {"model": "meta-llama/Llama-2-7b-hf"}}
    assert levels(settings)["base"] == "warning"
    assert levels(settings, environ={"HF_TOKEN": "x"})["base"] == "ok"


def test_a_base_that_does_not_fit_the_gpu_is_told_with_the_arithmetic():
    settings = {**GOOD, "base": {"model": "meta-llama/Llama-2-70b-hf"}, "llama": {"num_gpus": 1}}
    problem = next(finding for finding in check_application(settings, "A10G", {}) if finding.level == "error")
    assert "GiB weights" in problem.text
    assert levels({**settings, "base": {"model": "meta-llama/Llama-2-7b-hf"}}, "A10G")["memory"] == "ok"
    assert levels(settings)["memory"] == "warning"


def test_a_base_that_does_not_fit_the_machine(tmp_path, monkeypatch):
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    monkeypatch.setattr(application.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 8 * 2**30}))
    settings = {**GOOD, "base": {"model": str(tmp_path)}}
    assert levels(settings)["memory"] == "error"
    assert levels({**settings, "engine": {"weights": "int8"}})["memory"] == "ok"


@pytest.mark.parametrize(
    ("settings", "check", "level"),
    [
        ({"base": {"model": "/no/such/folder"}}, "base", "error"),
        ({"http_options": {"host": "0.0.0.0"}}, "access", "error"),
        ({"http_options": {"host": "0.0.0.0"}, "auth": {"allow_open": True}}, "access", "warning"),
        ({"http_options": {"host": "0.0.0.0"}, "auth": {"mode": "keys"}}, "access", "ok"),
        ({"auth": {"mode": "keys"}, "ingress": {"max_replicas": 2}}, "limits", "error"),
        ({"heartbeat_s": 90}, "idle time-out", "error"),
        ({"limits": {"request_timeout_s": 120}}, "idle time-out", "warning"),
    ],
)
def test_each_mistake_is_found(settings, check, level):
    assert levels({**GOOD, **settings})[check] == level


@pytest.mark.parametrize("text", ["]", "1", "applications: []"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=r"x\.yaml"):
        read_application(tmp_path / "x.yaml")

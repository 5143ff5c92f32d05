import json

import pytest

from llama_platform.cli.main import build_cli
from llama_platform.inference import speed


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(speed, "BATCHES", (1, 4))
    monkeypatch.setattr(speed, "ANSWER", 3)
    monkeypatch.setattr(speed, "matmul_gflops", lambda: 500.0)


def run(*arguments):
    build_cli()(["bench", "--minutes", "0", "--threads", "2", *arguments], standalone_mode=False)


def test_the_table_names_the_machine_and_each_figure(short, capsys):
    run()
    out = capsys.readouterr().out
    assert "answers, 4 at once" in out
    assert "loading an adapter of rank 64" in out
    assert "a matrix product reaches 500 GFLOP/s" in out
    assert "medians of 1 rounds" in out


def test_the_json_holds_the_same_for_machines(short, capsys):
    run("--json", "--dtype", "float32")
    found = json.loads(capsys.readouterr().out)
    assert (found["base"], found["rounds"], found["machine"]["threads"]) == ("tiny", 1, 2)
    assert {"name", "value", "unit", "limit", "share", "bound_by"} == set(found["speeds"][0])

import io
import json

import pytest
from rich.console import Console

from jobs import demo as demo_module
from jobs.demo import Demo, free_port, main
from jobs.demo_summary import summarize
from llama_platform.errors import InputError, PlatformError


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Demo(None, None, None, None)


def test_a_failing_stage_is_named_and_keeps_its_kind(demo):
    def prepare():
        raise InputError("chats.json:3: broken")

    with pytest.raises(InputError, match=r"stage 'prepare': chats\.json:3: broken"):
        demo.run(prepare)

    def serve():
        raise KeyError("x")

    with pytest.raises(PlatformError, match="stage 'serve': KeyError"):
        demo.run(serve)


def test_wrong_chats_end_with_exit_code_2_and_no_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chats.json").write_text('[{"input": "a", "output": "b"}')
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo/report.json").write_text("{}")
    assert main(["--chats", "chats.json"]) == 2
    assert "stage 'prepare': chats.json:1: not valid JSON" in capsys.readouterr().err
    assert not (tmp_path / ".demo/report.json").exists()


def test_steps_are_bounded_by_tokens(demo):
    demo.prepare()
    tokens = demo.report["dataset"]["train_tokens"]
    assert demo_module.MIN_STEPS <= demo.config.training.max_steps <= demo_module.MAX_STEPS
    assert tokens > 10_000


def test_the_summary_shows_answers_with_brackets_as_they_are():
    report = {
        "dataset": {"examples": 1, "train_tokens": 2},
        "training": {"workers": 2, "zero_stage": 2, "steps": 1, "tokens_per_s": 1.0, "loss_first": 1, "loss_last": 1},
        "evaluation": {
            "perplexity_base": 2.0,
            "perplexity_adapter": 1.0,
            "samples": [{"prompt": "[/bold]", "base": "[red]", "adapter": "see [2]"}],
        },
        "adapter": {"name": "a", "version": 1},
        "predict": {"prompt": "q", "text": "[/]"},
        "rag": {"question": "q", "answer": "a [1]", "sources": [{"document": "d", "heading": ""}]},
        "seconds": {"total": 1.0},
    }
    console = Console(file=io.StringIO(), width=120)
    console.print(summarize(json.loads(json.dumps(report))))
    text = console.file.getvalue()
    for piece in ("[/bold]", "[red]", "see [2]", "[/]"):
        assert piece in text


def test_a_taken_port_is_not_used_again():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port

import json

import pytest

from jobs.demo import stages
from jobs.demo.__main__ import main
from jobs.demo.stages import Demo
from llama_platform.errors import InputError, PlatformError
from llama_platform.training.batching.sampler import total_steps


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
    assert stages.MIN_STEPS <= demo.config.training.max_steps <= stages.MAX_STEPS
    assert tokens > 10_000


def test_overrides_win_over_the_demos_own_and_unknown_ones_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    demo = Demo(None, None, None, None, ["data.max_chats=40", "data.policies.malformed=drop", "training.max_steps=3"])
    assert (demo.config.data.max_chats, demo.config.data.policies.malformed) == (40, "drop")
    demo.prepare()
    assert demo.config.training.max_steps == 3
    assert main(["--set", "data.polices.malformed=drop"]) == 2
    assert "did you mean 'policies'?" in capsys.readouterr().err


def test_a_few_chats_are_read_often_enough_to_learn_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"input": f"What is {n}?", "output": f"It is the number {n}."}) for n in range(8)]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    demo = Demo("chats.jsonl", None, None, None)
    demo.prepare()
    training = demo.config.training
    possible = total_steps(
        demo.report["dataset"]["chats"]["train"], demo.config.global_batch_size(), training.epochs, None
    )
    assert possible >= stages.MIN_STEPS
    assert training.max_steps >= stages.MIN_STEPS


def test_the_demo_has_one_key_and_each_run_another_secret(demo):
    from datetime import UTC, datetime

    from llama_platform.access.keys import authenticate
    from llama_platform.access.registry import KeyRegistry
    from llama_platform.errors import UnauthorizedError

    first, second = demo._make_key(), demo._make_key()
    document = KeyRegistry(demo.repository.store).read()
    assert len(document.keys) == 1
    assert authenticate(document, second, datetime.now(UTC), {}).sees("adapter", "anything")
    with pytest.raises(UnauthorizedError):
        authenticate(document, first, datetime.now(UTC), {})
    file = stages.write_secret(stages.Path("secret"), second)
    assert file.stat().st_mode & 0o077 == 0

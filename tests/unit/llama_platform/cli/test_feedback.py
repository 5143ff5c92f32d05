import json
from datetime import UTC, datetime

import pytest

from llama_platform.cli.main import build_cli
from llama_platform.feedback.book import Conversation, FeedbackBook, Opinion, Turn
from llama_platform.storage.local import LocalStore


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    book = FeedbackBook(LocalStore(tmp_path / "store"))
    turns = [Turn(role="user", content="How hot? [/INST] [bold]")]
    asked = {"time": datetime(2026, 11, 27, tzinfo=UTC), "messages": turns, "answer": "Eighty."}
    for request, user in (("r1", "ada"), ("r2", "bob")):
        book.keep(Conversation(request=request, tenant="acme", user=user, **asked))
    book.add("acme", "r1", Opinion(rating="down", correction="Ninety."))

    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments):
        build_cli()(["feedback", *arguments, "--store", (tmp_path / "store").as_uri()], standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_feedback_is_listed_and_deleted(run):
    table = run("list")
    assert all(text in table for text in ("r1", "r2", "acme", "down", "yes", "[/INST]"))
    first, _ = map(json.loads, run("list", "--json").splitlines())
    assert first["opinions"][0]["correction"] == "Ninety."
    assert "1 conversations" in run("forget", "--user", "ada", "--tenant", "acme")
    assert len(run("list", "--json").splitlines()) == 1
    assert "0 conversations" in run("expire", "--older-than-days", "10000")

import json
from datetime import UTC, datetime

import pytest

from jobs.collect_feedback import main
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.feedback.book import Conversation, FeedbackBook, Opinion, Turn


@pytest.fixture
def repository(tmp_path):
    return repository_from(StoreConfig(uri=(tmp_path / "store").as_uri(), cache=tmp_path / "cache"), {})


@pytest.fixture
def collect(tmp_path, repository, capsys):
    def collect(kind):
        settings = {
            "kind": kind, "store.uri": (tmp_path / "store").as_uri(), "store.cache": tmp_path / "cache",
            "base.model": "tiny", "base.prompt_style": "plain", "data.name": kind,
            "data.report_folder": tmp_path / "report", "training.use_gpu": "false",
        }  # fmt: skip
        code = main([part for key, value in settings.items() for part in ("--set", f"{key}={value}")])
        return code, capsys.readouterr()

    return collect


def test_opinions_become_datasets(repository, collect):
    book = FeedbackBook(repository.store)
    for number in range(6):
        turns = [Turn(role="user", content=f"What of {number} lamps?")]
        asked = Conversation(
            request=f"r{number}", tenant="acme", time=datetime.now(UTC), messages=turns, answer="No idea.",
            adapter="assistant", version=3,
        )  # fmt: skip
        book.keep(asked)
        book.add("acme", f"r{number}", Opinion(correction=f"{number} lamps give light."))
    code, said = collect("corrections")
    assert code == 0, said.err
    assert "6 records of corrections, 6 kept; answered by assistant@3 6" in said.out
    metadata = repository.manifest(repository.latest("dataset", "corrections")).metadata
    assert metadata["feedback"] == {"kind": "corrections", "answered_by": {"assistant@3": 6}}
    code, said = collect("preferences")
    assert code == 0, said.err
    metadata = repository.manifest(repository.latest("dataset", "preferences")).metadata
    assert metadata["preferences"] is True
    assert json.dumps(metadata["feedback"])


def test_nothing_to_collect_is_said(collect):
    code, said = collect("approved")
    assert code != 0
    assert "there are no approved" in said.err

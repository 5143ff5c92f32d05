import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from llama_platform.errors import StorageError
from llama_platform.feedback.book import Conversation, FeedbackBook, Turn
from llama_platform.storage.local import LocalStore
from serve_apps.api.conversations import Conversations
from serve_apps.config import AppConfig
from serve_apps.worker_pools import WorkerPools

CONFIG = AppConfig.model_validate({"feedback": {"enabled": True, "expire_days": 5}})


class Answered:
    """A request's record with a conversation."""

    def __init__(self, request="r1", days=0):
        self.request, self.days = request, days

    def conversation(self, tenant):
        time = datetime.now(UTC) - timedelta(days=self.days)
        return Conversation(request=self.request, time=time, messages=[Turn(role="user", content="?")], answer="!")


@pytest.fixture
def book(tmp_path):
    return FeedbackBook(LocalStore(tmp_path))


def test_old_conversations_go(book):
    async def story():
        kept = Conversations(book, CONFIG, WorkerPools())
        for request, days in (("new", 1), ("old", 9)):
            kept.ended({}, Answered(request, days), 200, "true")
        await kept.written()
        task = asyncio.ensure_future(kept.run())
        while len(list(book.entries())) > 1:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(story())
    assert [entry.conversation.request for entry in book.entries()] == ["new"]


def test_a_store_that_is_away_costs_the_conversation_and_no_answer(book, monkeypatch, caplog):
    def refuse(_):
        raise StorageError("away")

    async def story():
        kept = Conversations(book, CONFIG, WorkerPools())
        kept.ended({}, Answered(), 200, "TRUE")
        await kept.written()

    monkeypatch.setattr(book, "keep", refuse)
    asyncio.run(story())
    assert "a conversation is not kept" in caplog.text


@pytest.mark.parametrize(("status", "consent"), [(500, "true"), (200, "false"), (200, "")])
def test_only_what_was_answered_and_agreed_to_is_kept(book, status, consent):
    async def story():
        kept = Conversations(book, CONFIG, WorkerPools())
        kept.ended({}, Answered(), status, consent)
        await kept.written()

    asyncio.run(story())
    assert list(book.entries()) == []

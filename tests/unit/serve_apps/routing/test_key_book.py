import asyncio

import pytest

from llama_platform.access.keys import AccessDocument
from llama_platform.access.registry import KeyRegistry
from llama_platform.errors import StorageError, UnauthorizedError, UnavailableError
from serve_apps.routing.key_book import KeyBook, KeysFollower
from waiting import until


@pytest.fixture
def followed(repository):
    """Run a story with a controller's part and an ingress's part that follow the keys of a store."""
    (registry := KeyRegistry(repository.store)).create("first", "acme", ("rag",))

    async def everything(story):
        follower = KeysFollower(repository.store, 0.05)

        class Source:
            async def keys(self, generation):
                return await follower.news(generation)

        book = KeyBook(Source(), {})
        with pytest.raises(UnavailableError):
            book.caller("lp_x")
        tasks = [asyncio.ensure_future(part.run()) for part in (follower, book)]
        try:
            await until(lambda: book.document is not None)
            await story(registry, book)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return lambda story: asyncio.run(everything(story))


def is_taken(book, text):
    try:
        return bool(book.caller(text))
    except UnauthorizedError:
        return False


def test_a_key_is_taken_and_revoked_everywhere_soon(followed):
    async def story(registry, book):
        key, text = await asyncio.to_thread(registry.create, "ada", "acme", ("rag",))
        await until(lambda: is_taken(book, text))
        await asyncio.to_thread(registry.revoke, key.id)
        await until(lambda: not is_taken(book, text))

    followed(story)


def test_while_the_store_is_away_what_is_known_counts(followed, monkeypatch):
    async def story(registry, book):
        _, text = await asyncio.to_thread(registry.create, "ada", "acme", ("rag",))
        await until(lambda: is_taken(book, text))

        def away(self, etag):
            raise StorageError("away")

        monkeypatch.setattr(KeyRegistry, "read_if_changed", away)
        await asyncio.sleep(0.3)
        assert is_taken(book, text)

    followed(story)


def test_tokens_of_an_identity_provider_are_told_from_keys():
    class Tokens:
        def caller(self, text):
            return f"token {text}"

    book = KeyBook(None, {}, Tokens())
    assert book.caller("a.b.c") == "token a.b.c"
    with pytest.raises(UnavailableError):
        book.caller("lp_x")
    book.document = AccessDocument()
    with pytest.raises(UnauthorizedError):
        book.caller("lp_x")

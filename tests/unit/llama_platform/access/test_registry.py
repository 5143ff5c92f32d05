from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from llama_platform.access.keys import authenticate
from llama_platform.access.registry import KEYS_FILE, KeyRegistry
from llama_platform.errors import ConflictError, InputError, IntegrityError, NotFoundError, UnauthorizedError
from llama_platform.storage.open_store import open_store


@pytest.fixture(params=["file", "s3"])
def registry(request, tmp_path):
    uri = (tmp_path / "store").as_uri() if request.param == "file" else request.getfixturevalue("s3_uri")
    return KeyRegistry(open_store(uri))


def taken(registry, text, later=timedelta()):
    return authenticate(registry.read(), text, datetime.now(UTC) + later, {}).key


def test_a_key_is_taken_until_it_is_revoked_and_its_secret_is_not_kept(registry):
    key, text = registry.create("ada", "acme", ("generate",))
    assert taken(registry, text) == key.id
    assert text.rpartition("_")[2] not in registry._document._store.read(KEYS_FILE).content.decode()
    registry.revoke(key.id)
    with pytest.raises(UnauthorizedError):
        taken(registry, text)


def test_after_a_rotation_both_secrets_are_taken_for_a_while(registry):
    key, old = registry.create("ada", "acme", ("generate",))
    _, new = registry.rotate(key.id, timedelta(hours=1))
    assert taken(registry, old) == taken(registry, new) == key.id
    with pytest.raises(UnauthorizedError):
        taken(registry, old, later=timedelta(hours=2))
    assert taken(registry, new, later=timedelta(days=1)) == key.id
    _, newest = registry.rotate(key.id, timedelta(0))
    with pytest.raises(UnauthorizedError):
        taken(registry, new)
    assert taken(registry, newest) == key.id


def test_keys_that_are_made_at_once_are_all_there(registry):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: registry.create(f"k{n}", "acme", ("rag",))[0].id, range(8)))
    document = registry.read()
    assert set(document.keys) == set(made)
    assert document.generation == 8


@pytest.mark.parametrize(
    ("name", "tenant", "scopes", "words"),
    [("Ada!", "acme", ("rag",), "name"), ("ada", "../x", ("rag",), "tenant"), ("ada", "acme", (), "at least one")],
)
def test_what_may_be_no_key_is_refused(registry, name, tenant, scopes, words):
    with pytest.raises(InputError, match=words):
        registry.create(name, tenant, scopes)


def test_a_name_is_one_keys_until_that_is_revoked(registry):
    key, _ = registry.create("ada", "acme", ("rag",))
    registry.create("ada", "other", ("rag",))
    with pytest.raises(ConflictError, match=key.id):
        registry.create("ada", "acme", ("rag",))
    registry.revoke(key.id)
    registry.create("ada", "acme", ("rag",))
    with pytest.raises(InputError, match="has been revoked"):
        registry.rotate(key.id, timedelta(0))
    with pytest.raises(NotFoundError):
        registry.revoke("f" * 12)


def test_a_damaged_document_is_said(registry):
    registry._document._store.write(KEYS_FILE, b"{")
    with pytest.raises(IntegrityError, match="damaged"):
        registry.read()

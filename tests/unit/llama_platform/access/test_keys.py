import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from llama_platform.access.keys import AccessDocument, ApiKey, Caller, Secret, TenantDefaults, authenticate
from llama_platform.access.quotas import Quotas
from llama_platform.errors import ForbiddenError, UnauthorizedError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "5a" * 32
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
KEY = ApiKey(
    id="0123456789ab", name="ada", tenant="acme", scopes=("generate",), secrets=(Secret(sha256=DIGEST),), created=NOW
)
TEXT = f"lp_{KEY.id}_{SECRET}"


def caller(text=TEXT, tenants=None, **changes):
    document = AccessDocument(keys={KEY.id: KEY.model_copy(update=changes)})
    return authenticate(document, text, NOW, tenants or {})


def test_a_key_says_who_asks():
    found = caller(adapters=("support", "acme-*"))
    assert (found.key, found.tenant) == (KEY.id, "acme")
    assert found.sees("adapter", "support")
    assert found.sees("adapter", "acme-sales")
    assert not found.sees("adapter", "supporters")
    assert not found.sees("index", "support")


def test_a_key_that_names_nothing_sees_what_its_tenant_does():
    assert not caller().sees("adapter", "support")
    acme = TenantDefaults(adapters=("support",), indexes=("docs",), limits=Quotas(requests_per_minute=5))
    found = caller(tenants={"acme": acme, "other": TenantDefaults(adapters=("*",), indexes=("*",))})
    assert found.limits == acme.limits
    assert caller(tenants={"acme": acme}, limits=Quotas(tokens_per_day=1)).limits == Quotas(tokens_per_day=1)
    assert (found.sees("adapter", "support"), found.sees("index", "docs")) == (True, True)
    assert not found.sees("adapter", "other")


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", {}),
        ("nonsense", {}),
        (f"lp_{KEY.id}_{'0' * 64}", {}),
        (f"lp_{'f' * 12}_{SECRET}", {}),
        (f"{TEXT} ", {}),
        (TEXT.upper(), {}),
        (TEXT, {"revoked": NOW}),
        (TEXT, {"expires": NOW}),
        (TEXT, {"secrets": (Secret(sha256=DIGEST, until=NOW),)}),
    ],
)
def test_what_is_not_taken_is_refused_with_one_sentence(text, changes):
    with pytest.raises(UnauthorizedError, match=r"^this key is not known here, or not taken any more$"):
        caller(text, **changes)


def test_until_its_end_a_key_is_taken():
    assert caller(expires=NOW + timedelta(seconds=1)).key == KEY.id
    assert caller(secrets=(Secret(sha256="1" * 64), Secret(sha256=DIGEST, until=NOW + timedelta(seconds=1)))).key


def test_scopes_are_what_it_may_do():
    found = Caller(key="k", tenant="t", scopes=("rag",), adapters=(), indexes=())
    found.require("rag")
    with pytest.raises(ForbiddenError, match="has not the scope 'embed'; it has: rag"):
        found.require("embed")

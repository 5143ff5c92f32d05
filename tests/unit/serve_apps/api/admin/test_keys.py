import pytest

from llama_platform.access.registry import KeyRegistry

NEW = {"name": "ada", "tenant": "acme", "scopes": ["generate"], "adapters": ["support"], "expires_days": 30}


@pytest.fixture
def registry(repository):
    return KeyRegistry(repository.store)


@pytest.fixture
def admin(make_http, tmp_path, registry):
    """The application with a token and keys."""
    (tmp_path / "token").write_text("t" * 32)
    _, registry.manager = registry.create("manager", "acme", ("generate", "admin:read", "admin:write"), ("support",))
    registry.create("stranger", "other", ("generate",))
    return make_http(admin_token_file=tmp_path / "token", auth={"mode": "keys"})


def bearer(text):
    return {"headers": {"Authorization": f"Bearer {text}"}}


def test_a_key_is_shown_once(admin, registry):
    made = admin.post("/admin/keys", NEW, **bearer("t" * 32))
    assert made.status_code == 201
    key = made.json()
    assert key["key"].startswith(f"lp_{key['id']}_")
    listed = admin.get("/admin/keys", **bearer("t" * 32)).json()
    assert {one["name"] for one in listed} == {"ada", "manager", "stranger"}
    assert all(one.keys().isdisjoint({"key", "secrets"}) for one in listed)
    rotated = admin.post(f"/admin/keys/{key['id']}/rotate", {"overlap_hours": 1}, **bearer("t" * 32)).json()
    assert rotated["key"] != key["key"]
    revoked = admin.post(f"/admin/keys/{key['id']}/revoke", None, **bearer("t" * 32)).json()
    assert revoked["revoked"] is not None


def test_a_key_that_may_administer_does_so_for_its_own_tenant(admin, registry):
    own = bearer(registry.manager)
    assert {one["name"] for one in admin.get("/admin/keys", **own).json()} == {"manager"}
    assert admin.post("/admin/keys", NEW, **own).status_code == 201
    for wider in ({"tenant": "other"}, {"scopes": ["rag"]}, {"adapters": ["*"]}):
        answer = admin.post("/admin/keys", {**NEW, "name": "more", **wider}, **own)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), wider
    (stranger,) = [key.id for key in registry.read().keys.values() if key.name == "stranger"]
    assert admin.post(f"/admin/keys/{stranger}/revoke", None, **own).status_code == 404

import pytest

from llama_platform.access.registry import KeyRegistry

TOKEN = "t" * 20


def test_without_keys_everybody_may_ask(http):
    found = http.get("/me").json()
    assert (found["administers"], found["keys_are_asked_for"], found["tenant"]) == ("nothing", False, None)
    assert set(found["scopes"]) == {"generate", "rag", "embed", "feedback"}


def test_the_administrators_token_is_known(make_http, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    open_to_all = make_http(admin_token_file=str(tmp_path / "token"))
    assert open_to_all.get("/me").json()["administers"] == "nothing"
    wrong = open_to_all.get("/me", headers={"Authorization": "Bearer wrong"}).json()
    assert (wrong["administers"], wrong["given"]) == ("nothing", "unknown")
    assert open_to_all.get("/me", headers=bearer).json()["administers"] == "writes"
    with_keys = make_http(admin_token_file=str(tmp_path / "token"), auth={"mode": "keys"})
    found = with_keys.get("/me", headers=bearer).json()
    assert (found["administers"], found["scopes"], found["tenant"]) == ("writes", [], None)
    assert with_keys.get("/me").status_code == 401


@pytest.mark.parametrize(
    ("scopes", "administers"),
    [
        (("generate",), "nothing"),
        (("rag", "admin:read"), "reads"),
        (("admin:read", "admin:write"), "writes"),
        (("admin:write",), "nothing"),  # without reading, every page would be refused
    ],
)
def test_a_key_is_told_what_it_may(make_http, repository, scopes, administers):
    key, text = KeyRegistry(repository.store).create("k", "acme", scopes, (), ())
    http = make_http(auth={"mode": "keys"})
    found = http.get("/me", headers={"Authorization": f"Bearer {text}"}).json()
    assert (found["tenant"], found["administers"], found["key"]) == ("acme", administers, key.id)
    assert (found["given"], found["gives"]) == ("key", list(scopes))
    assert found["scopes"] == [scope for scope in scopes if not scope.startswith("admin")]
    assert http.get("/me", headers={"Authorization": f"Bearer lp_{'0' * 12}_{'0' * 64}"}).status_code == 401


def test_what_a_key_does_not_see_is_not_named(make_http, repository):
    _, text = KeyRegistry(repository.store).create("k", "acme", ("generate", "rag"), ("theirs",), ("docs",))
    http = make_http(auth={"mode": "keys"}, adapter="support", index="docs")
    offers = http.get("/me", headers={"Authorization": f"Bearer {text}"}).json()["offers"]
    assert (offers["adapter"], offers["index"]) == (None, "docs")

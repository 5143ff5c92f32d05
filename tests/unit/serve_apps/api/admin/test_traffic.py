import pytest

from llama_platform.access.keys import SCOPES
from llama_platform.access.registry import KeyRegistry
from route_requests import predict

TOKEN = "t" * 32


def test_what_was_asked_is_told_and_looking_is_not_counted(make_http, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    http, bearer = make_http(admin_token_file=str(tmp_path / "token")), {"Authorization": f"Bearer {TOKEN}"}
    predict(http)
    http.get("/admin/traffic", headers=bearer)
    found = http.get("/admin/traffic", headers=bearer).json()
    (minute,) = found["minutes"]
    assert (minute["requests"], minute["failed"]) == (1, 0)
    assert minute["completion_tokens"] > 0
    assert len(found["replicas"]) == 1


@pytest.mark.parametrize(("asks", "sees"), [("acme", 1), ("other", 0)])
def test_a_key_sees_what_its_tenant_asked(make_http, repository, asks, sees):
    keys = {}
    for tenant in ("acme", "other"):
        _, text = KeyRegistry(repository.store).create("k", tenant, SCOPES, ("*",), ())
        keys[tenant] = {"Authorization": f"Bearer {text}"}
    http = make_http(auth={"mode": "keys"})
    http.post("/predict", {"prompt": "Hi", "max_new_tokens": 3}, headers=keys[asks])
    found = http.get("/admin/traffic", headers=keys["acme"]).json()
    assert sum(minute["requests"] for minute in found["minutes"]) == sees

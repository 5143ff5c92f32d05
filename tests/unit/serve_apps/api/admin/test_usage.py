import csv
import io
from datetime import UTC, datetime

import pytest

from llama_platform.access.registry import KeyRegistry

TODAY = f"{datetime.now(UTC):%Y-%m-%d}"


@pytest.fixture
def keys(repository):
    registry = KeyRegistry(repository.store)
    return {
        tenant: {"Authorization": f"Bearer {registry.create('k', tenant, ('generate', 'admin:read'), ('support',))[1]}"}
        for tenant in ("acme", "other")
    }


@pytest.fixture
def http(keys, make_http, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    made = make_http(auth={"mode": "keys"}, admin_token_file=str(token), prices={"completion": 1000})
    for tenant, times in (("acme", 2), ("other", 1)):
        for _ in range(times):
            body = {"prompt": "hi", "max_new_tokens": 4, "adapter": "support"}
            assert made.post("/predict", body, headers=keys[tenant]).status_code == 200
    assert made.post("/predict", {"prompt": "hi", "adapter": "nothing"}, headers=keys["acme"]).status_code == 404
    return made


def test_the_administrator_sees_all_and_a_key_its_tenant(http, keys):
    administrator = {"Authorization": "Bearer 0123456789abcdef"}
    rows = http.get("/admin/usage", headers=administrator).json()["rows"]
    assert [(row["tenant"], row["adapter"], row["requests"], row["failed"]) for row in rows] == [
        ("acme", "", 1, 1),
        ("acme", "support", 2, 0),
        ("other", "support", 1, 0),
    ]
    assert rows[1]["cost"] == rows[1]["completion_tokens"] > 0
    own = http.get("/admin/usage", headers=keys["other"]).json()["rows"]
    assert [row["tenant"] for row in own] == ["other"]
    assert http.get("/admin/usage?tenant=acme", headers=keys["other"]).json()["rows"] == []
    assert len(http.get("/admin/usage?tenant=acme", headers=administrator).json()["rows"]) == 2


def test_days_and_form(http, keys):
    answer = http.get(f"/admin/usage?from={TODAY}&to={TODAY}&format=csv", headers=keys["acme"])
    assert answer.headers["content-type"].startswith("text/csv")
    assert [row["requests"] for row in csv.DictReader(io.StringIO(answer.text))] == ["1", "2"]
    assert http.get("/admin/usage?from=2020-01-01&to=2020-01-02", headers=keys["acme"]).json()["rows"] == []
    for wrong in ("from=0", "from=yesterday", "to=2020-13-01", "format=xml"):
        assert http.get(f"/admin/usage?{wrong}", headers=keys["acme"]).status_code == 400

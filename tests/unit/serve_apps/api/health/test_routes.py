from contextlib import suppress

from llama_platform.artifacts.aliases import Target
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.breaker import Breaker
from serve_apps.routing.table import Route, RouteTarget, RoutingTable


def test_health_is_what_replicas_said(http):
    assert http.get("/health").json()["status"] == "ok"
    assert http.get("/health/ready").status_code == 200
    object.__setattr__(http.router._tables["adapter"], "replicas", {})
    assert http.get("/health").status_code == 503
    assert http.get("/health/ready").status_code == 503
    assert http.get("/health/live").status_code == 200


def test_an_open_breaker_is_shown_and_counts_as_degraded(http):
    breaker = Breaker("retriever", failures=1)
    object.__setattr__(http.api.state.state, "breakers", [breaker])
    assert http.get("/health").json()["breakers"] == {"retriever": "closed"}
    with suppress(ValueError), breaker.guarding():
        raise ValueError
    health = http.get("/health").json()
    assert (health["status"], health["breakers"]) == ("degraded", {"retriever": "opened"})


def test_without_replicas_on_purpose_it_is_cold(make_http):
    http = make_http(llama={"min_replicas": 0})
    object.__setattr__(http.router._tables["adapter"], "replicas", {})
    assert http.get("/health/ready").json() == {"status": "cold"}


def test_the_description_of_the_routes_needs_no_internet(http):
    page = http.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/static-offline-docs/{asset}" in page
        assert http.get(f"/static-offline-docs/{asset}").status_code == 200


def test_model_info_asks_the_store_nothing(http, repository, monkeypatch):
    """Whatever the number of adapters: all of it is in the routing table."""
    routes = {}
    for n in range(300):
        version = ArtifactVersion("adapter", f"a{n:03}", 2, f"{n:064}", "2026-01-01")
        wanted = (Target(version=2, weight=1),)
        routes[f"a{n:03}", "production"] = Route(
            f"a{n:03}", "production", (RouteTarget(version, 1),), "live", wanted, None, 5
        )
    http.router._tables["adapter"] = RoutingTable(2, routes, http.router.table("adapter").replicas)
    for name in ("read", "list_keys", "list_folders", "size"):
        monkeypatch.setattr(type(repository.store), name, lambda *_: 1 / 0)
    info = http.get("/model/info").json()
    assert len(info["adapters"]) == 300
    assert info["adapters"][7] == {
        "name": "a007", "aliases": {"production": [{"version": 2, "weight": 1}]}, "generation": 5,
        "versions": [{"version": 2, "digest": f"{7:064}", "created": "2026-01-01"}],
    }  # fmt: skip
    assert info["replicas"][0]["context_length"] == 512


def test_only_the_administrator_is_told_where_the_store_is(make_http, tmp_path, repository):
    (tmp_path / "token").write_text("t" * 32)
    http = make_http(admin_token_file=tmp_path / "token")
    assert "store" not in http.get("/health").json()
    found = http.get("/health", headers={"Authorization": "Bearer " + "t" * 32}).json()
    assert found["store"] == repository.store.root

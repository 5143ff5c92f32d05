"""What a canary is judged by is counted of every request that a split has chosen a version for, and of no other."""

import pytest

from llama_platform.artifacts.aliases import Target
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.canary.counts import SplitKey
from llama_platform.errors import EngineError
from route_requests import answer_with, predict
from serve_apps.routing.table import Route, RouteTarget, RoutingTable

SPLIT = SplitKey("support", "production", 7)
AGREES = {"X-Keep-Conversation": "true"}


@pytest.fixture
def http(make_http):
    """The alias splits its traffic between versions 1 and 2 since generation 7; both are the same adapter."""
    http = make_http(feedback={"enabled": True})
    table = http.router.table("adapter")
    digest = table.aliases["support", "production"].targets[0].version.digest
    versions = [ArtifactVersion("adapter", "support", number, digest, "2026-01-01") for number in (1, 2)]
    wanted = tuple(Target(version=number, weight=1) for number in (1, 2))
    targets = tuple(RouteTarget(version, 1) for version in versions)
    route = Route("support", "production", targets, "live", wanted, None, 9, 7, True)
    http.router._tables["adapter"] = RoutingTable(2, {("support", "production"): route}, table.replicas)
    return http


def counted(http):
    total = http.splits._counts.get(SPLIT, {})
    return {version: counts for version, counts in total.items()}


def test_each_request_counts_for_the_version_that_answered_it(http):
    for number in range(20):
        assert predict(http, adapter="support", user=f"user-{number}").status_code == 200
    found = counted(http)
    assert sum(counts.requests for counts in found.values()) == 20
    assert set(found) == {1, 2}
    for counts in found.values():
        assert counts.failed == counts.refused == 0
        assert counts.first_token_ms.total == counts.answer_tokens.total == counts.requests


def test_failures_count_and_what_the_client_did_wrong_does_not(http, monkeypatch):
    predict(http, adapter="support", max_new_tokens=10**6)
    answer_with(http, monkeypatch, [EngineError("broken")])
    assert predict(http, adapter="support").status_code == 500
    found = counted(http).values()
    assert (sum(one.requests for one in found), sum(one.failed for one in found)) == (1, 1)
    assert sum(one.answer_tokens.total for one in found) == 0


def test_what_names_a_version_or_has_no_split_is_not_counted(http, make_http):
    assert predict(http, adapter="support@1").status_code in (200, 404)
    predict(http)
    assert counted(http) == {}
    plain = make_http()
    predict(plain, adapter="support")
    assert plain.splits._counts == {}


def test_an_answer_that_is_rated_down_counts_for_its_split(http, monkeypatch):
    answer_with(http, monkeypatch, ["Eighty."])
    chat = {"model": "base:support", "messages": [{"role": "user", "content": "How hot?"}]}
    asked = http.post("/v1/chat/completions", chat, headers=AGREES).json()["id"].removeprefix("chatcmpl-")
    http.post("/feedback", {"request": asked, "rating": "up"})
    assert sum(one.disliked for one in counted(http).values()) == 0
    for _ in range(3):  # one user who is angry three times is one
        assert http.post("/feedback", {"request": asked, "rating": "down"}).status_code == 200
    (entry,) = http.book.entries()
    assert counted(http)[entry.conversation.version].disliked == 1


def test_a_stream_that_fails_after_its_start_and_a_model_that_rag_does_without_are_failures(
    http, make_rag, monkeypatch
):
    answer_with(http, monkeypatch, ["It begins ", EngineError("broken")])
    answer = predict(http, adapter="support", stream=True)
    assert (answer.status_code, "event: error" in answer.text) == (200, True)
    assert sum(one.failed for one in counted(http).values()) == 1
    rag = make_rag(rag_adapter="support", feedback={"enabled": True})
    rag.router._tables["adapter"] = http.router.table("adapter")
    answer_with(rag, monkeypatch, [EngineError("broken")])
    assert (
        rag.post("/rag", {"question": "How hot is the water for green tea?"}).json()["degraded_because"] == "no_model"
    )
    assert sum(one.failed for one in counted(rag).values()) == 1


def test_what_a_moderator_refuses_counts_for_the_version_that_answered(make_http, http, monkeypatch):
    safety = {"moderator": {"adapter": "support", "places": ["output"]}}
    moderated = make_http(safety=safety)
    moderated.router._tables["adapter"] = http.router.table("adapter")

    async def is_harmful(text, context):
        return True

    monkeypatch.setattr(moderated.api.state.state.generation.moderator, "is_harmful", is_harmful)
    answer_with(moderated, monkeypatch, ["Eighty."])
    predict(moderated, adapter="support")
    assert sum(one.refused for one in counted(moderated).values()) == 1


def test_while_a_canary_runs_each_request_is_drawn_by_itself(http):
    sides = {predict(http, adapter="support", user="the same").json()["model"]["version"] for _ in range(30)}
    assert sides == {1, 2}
    route = http.router.table("adapter").aliases["support", "production"]
    other = Route(**{field: getattr(route, field) for field in Route.__slots__} | {"canary": False})
    http.router._tables["adapter"] = RoutingTable(
        3, {("support", "production"): other}, http.router.table("adapter").replicas
    )
    sides = {predict(http, adapter="support", user="the same").json()["model"]["version"] for _ in range(10)}
    assert len(sides) == 1
    assert http.router.split_of("support") is None
    assert http.router.split_of("support@1") is None

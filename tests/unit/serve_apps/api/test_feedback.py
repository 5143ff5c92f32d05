import pytest

from llama_platform.access.keys import SCOPES
from llama_platform.access.registry import KeyRegistry
from route_requests import answer_with


@pytest.fixture
def http(make_http):
    return make_http(feedback={"enabled": True})


def ask(http, body, path="/v1/chat/completions", **headers):
    answer = http.post(path, body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"].removeprefix("chatcmpl-")


CHAT = {"model": "base:support", "messages": [{"role": "user", "content": "How hot?"}], "user": "ada"}
AGREES = {"X-Keep-Conversation": "true"}


def test_an_answer_is_corrected(http, monkeypatch):
    answer_with(http, monkeypatch, ["Eighty ", "degrees."])
    asked = ask(http, CHAT, **AGREES)
    done = http.post("/feedback", {"request": asked, "rating": "down", "correction": "Ninety degrees."})
    assert done.status_code == 200, done.text
    (entry,) = http.book.entries()
    assert (entry.conversation.answer, entry.conversation.user) == ("Eighty degrees.", "ada")
    assert (entry.conversation.adapter, entry.conversation.version) == ("support", 1)
    assert [turn.content for turn in entry.conversation.messages] == ["How hot?"]
    assert entry.opinions[0].correction == "Ninety degrees."


@pytest.mark.parametrize("stream", [False, True])
def test_predict_is_kept_too(http, monkeypatch, stream):
    answer_with(http, monkeypatch, ["Eighty."])
    http.post("/predict", {"prompt": "How hot?", "stream": stream}, headers=AGREES)
    (entry,) = http.book.entries()
    assert (entry.conversation.answer, entry.conversation.adapter) == ("Eighty.", None)


@pytest.mark.parametrize("headers", [{}, {"X-Keep-Conversation": "false"}, {"X-Keep-Conversation": "perhaps"}])
def test_nothing_is_kept_without_consent(http, monkeypatch, headers):
    answer_with(http, monkeypatch, ["Eighty."])
    asked = ask(http, CHAT, **headers)
    refused = http.post("/feedback", {"request": asked, "rating": "up"})
    assert (refused.status_code, refused.json()["field"]) == (404, "request")


def test_nothing_is_kept_of_what_has_not_ended_well_or_is_not_one_answer(http, monkeypatch):
    cut = http.post("/v1/chat/completions", CHAT | {"max_tokens": 1, "temperature": 0}, headers=AGREES)
    assert cut.json()["choices"][0]["finish_reason"] == "length"
    http.post("/v1/chat/completions", CHAT | {"n": 2}, headers=AGREES)
    http.post("/v1/chat/completions", CHAT | {"model": "gpt-4"}, headers=AGREES)
    assert list(http.book.entries()) == []


def test_tenants_agree_and_see_only_their_own(make_http, repository, monkeypatch):
    tenants = {"acme": {"keep_conversations": True}}
    http = make_http(feedback={"enabled": True}, auth={"mode": "keys"}, tenants=tenants)
    keys = {}
    for tenant in ("acme", "others"):
        _, text = KeyRegistry(repository.store).create("k", tenant, SCOPES, ("*",), ("*",))
        keys[tenant] = {"Authorization": f"Bearer {text}"}
    http = make_http(feedback={"enabled": True}, auth={"mode": "keys"}, tenants=tenants)
    answer_with(http, monkeypatch, ["Eighty."])
    asked = ask(http, CHAT, **keys["acme"])
    ask(http, CHAT, **keys["others"])
    refused = ask(http, CHAT, **keys["acme"], **{"X-Keep-Conversation": "false"})
    body = {"request": asked, "rating": "up"}
    assert http.post("/feedback", body, headers=keys["others"]).status_code == 404
    assert http.post("/feedback", body, headers=keys["acme"]).status_code == 200
    assert http.post("/feedback", body | {"request": refused}, headers=keys["acme"]).status_code == 404
    assert [entry.conversation.tenant for entry in http.book.entries()] == ["acme"]


@pytest.mark.parametrize(
    ("body", "field"),
    [({"rating": "up"}, "request"), ({"request": "r"}, "rating"), ({"request": "r", "rating": "good"}, "rating")],
)
def test_what_says_nothing_is_refused(http, body, field):
    refused = http.post("/feedback", body)
    assert (refused.status_code, refused.json()["field"]) == (400, field)


def test_it_is_off_unless_it_is_switched_on(make_http, monkeypatch):
    http = make_http()
    answer_with(http, monkeypatch, ["Eighty."])
    asked = ask(http, CHAT, **AGREES)
    assert http.post("/feedback", {"request": asked, "rating": "up"}).status_code == 403
    assert list(http.book.entries()) == []

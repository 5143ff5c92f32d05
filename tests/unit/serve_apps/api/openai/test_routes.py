from dataclasses import replace

import pytest


def test_models_are_the_base_and_what_is_live(http):
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["base", "base:support"]
    assert http.get("/v1/models/base:support").json()["version"] == 1
    assert http.get("/v1/models/gpt-4").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "word " * 600}]}, "leaves no room"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "word " * 380}], "max_tokens": 250},
            "over the context",
        ),
        ("completions", {"prompt": "word " * 600}, "leaves no room"),
    ],
)
def test_a_prompt_beyond_the_context_has_openais_code(http, path, body, words):
    response = http.post(f"/v1/{path}", {"model": "base", **body})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (
        400,
        "context_length_exceeded",
        "invalid_request_error",
    )
    assert words in error["message"]
    native = http.post("/predict", {"prompt": "word " * 600}).json()
    assert native["code"] == "invalid_input"


def test_an_alias_beside_production_is_listed_by_a_name_that_answers(http):
    table = http.api.state.state.router.table("adapter")
    canary = replace(table.aliases["support", "production"], alias="canary")
    http.api.state.state.router._tables["adapter"] = replace(table, aliases={("support", "canary"): canary})
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["base", "base:support@canary"]
    assert http.get("/v1/models/base:support@canary").json()["version"] == 1

import pytest

from route_requests import chat


@pytest.mark.parametrize(
    ("fields", "status", "param", "words"),
    [
        ({"temperature": -1}, 400, "temperature", "greater than"),
        ({"messages": []}, 400, "messages", "at least 1"),
        ({"messages": [{"role": "alien", "content": "x"}]}, 400, "messages.0.role", "'system'"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "messages.0", "empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, None, "text"),
        ({"stop": ["a"] * 100}, 400, None, "at most 8"),
        ({"n": 9}, 400, None, "limit of 8"),
        ({"response_format": {"type": "json_schema"}}, 400, None, "needs it"),
        ({"response_format": {"type": "grammar"}}, 400, None, "json_object"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "strin"}}}},
            400,
            None,
            "strin",
        ),
        ({"guided_json": {"type": "object", "if": {}}}, 400, None, "guided_json: json: cannot be kept"),
        ({"guided_json": "{"}, 400, None, "guided_json: is no JSON"),
        ({"guided_regex": "(?=a)"}, 400, None, "look-around"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, 400, None, "one structure"),
        ({"structured_outputs": {"regex": "(", "json": None}}, 400, None, "structured_outputs.regex"),
        ({"logit_bias": {"5": 101}}, 400, None, "less than or equal to 100"),
        ({"logit_bias": {"five": 1}}, 400, None, "pattern"),
        ({"logit_bias": {"999999": 1}}, 400, None, "no token of this model"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "needs"),
        ({"unheard_of": 1}, 400, "unheard_of", "not permitted"),
        ({"model": "base:nobody"}, 404, "model", "no alias"),
        ({"model": "base:"}, 404, "model", "no model"),
        ({"model": "base:../x"}, 404, "model", "no model"),
        ({"model": "gpt-4"}, 404, "model", "/v1/models lists them"),
    ],
)
def test_wrong_chats_are_named_in_openais_form(http, fields, status, param, words):
    response = chat(http, **fields)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert words in error["message"]
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    if param:
        assert error["param"] == param
    assert http.generator.asked == []


def test_a_bias_reaches_the_engine(http):
    assert chat(http, logit_bias={"7": -100, "5": 1.5}).status_code == 200
    assert http.generator.asked[0][0][0].sampling.logit_bias == ((5, 1.5), (7, -100.0))


def test_what_asks_for_nothing_is_accepted(http):
    harmless = {"tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "metadata": {"a": "b"}, "n": None}
    assert chat(http, **harmless).status_code == 200

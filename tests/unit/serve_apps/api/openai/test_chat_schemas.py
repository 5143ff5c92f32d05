import json

import pytest

from route_requests import answer_with, chat, chunks, prompt_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
TALK = [
    {"role": "user", "content": "And Rome?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]
WRITTEN = '<tool_call>{"name":"weather","arguments":{"city":"Rome"}}</tool_call>'


def test_tools_reach_the_model_as_text_and_as_a_grammar(http, tiny_template):
    assert chat(http, messages=TALK, tools=[WEATHER]).status_code == 200
    prompt = prompt_of(http, tiny_template)
    assert '{"name":"weather","description":"The weather of a place.","parameters":' in prompt
    assert WRITTEN in prompt
    assert '<tool_response>{"name":"weather","content":"sunny"}</tool_response>' in prompt
    sampling = http.generator.asked[-1][0][0].sampling
    assert sampling.structure.kind == "tools"
    assert sampling.stop == ("### Human:",)
    assert chat(http, tools=[WEATHER], tool_choice="required").status_code == 200
    assert http.generator.asked[-1][0][0].sampling.stop == ()


def test_no_tools_no_grammar(http, tiny_template):
    for fields in (
        {"tools": [WEATHER], "tool_choice": "none"},
        {"tools": []},
        {"tool_choice": "auto"},
        {"tools": None},
    ):
        assert chat(http, **fields).status_code == 200
        assert http.generator.asked[-1][0][0].sampling.structure is None
        assert "weather" not in prompt_of(http, tiny_template)


def test_a_call_in_an_answer(http, monkeypatch):
    answer_with(http, monkeypatch, ["I look.\n", WRITTEN[:20], WRITTEN[20:]])
    choice = chat(http, tools=[WEATHER]).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}
    answer_with(http, monkeypatch, [WRITTEN])
    assert chat(http, tools=[WEATHER]).json()["choices"][0]["message"]["content"] is None


def test_a_call_in_a_stream(http, monkeypatch):
    answer_with(http, monkeypatch, ["I look.\n", WRITTEN[:20], WRITTEN[20:50], WRITTEN[50:], "\n", WRITTEN])
    choices = [chunk["choices"][0] for chunk in chunks(chat(http, tools=[WEATHER], stream=True))]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "I look."
    deltas = [delta for choice in choices for delta in choice["delta"].get("tool_calls", [])]
    first, second = ([delta for delta in deltas if delta["index"] == number] for number in (0, 1))
    for call in (first, second):
        assert call[0]["function"]["name"] == "weather"
        assert call[0]["id"]
        assert not any("name" in delta["function"] for delta in call[1:])
        assert json.loads("".join(delta["function"]["arguments"] for delta in call)) == {"city": "Rome"}
    assert first[0]["id"] != second[0]["id"]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["tool_calls"]


def test_a_call_that_is_cut_never_pretends_to_be_whole(http, monkeypatch):
    for cut in (15, 50):
        answer_with(http, monkeypatch, [WRITTEN[:cut]])
        assert chat(http, tools=[WEATHER]).json()["choices"][0]["finish_reason"] == "length"
    assert chat(http, tools=[WEATHER]).json()["choices"][0]["finish_reason"] == "length"
    assert chunks(chat(http, tools=[WEATHER], stream=True))[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tools": [{"type": "web_search"}]}, "function"),
        ({"tools": [{"type": "function"}]}, "Field required"),
        ({"tools": [WEATHER, WEATHER]}, "same name"),
        ({"tool_choice": "required"}, "needs 'tools'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "no function 'x'"),
        ({"tools": [WEATHER], "guided_regex": "a"}, "JSON of a schema"),
        ({"messages": TALK[:1] + TALK[2:]}, "no call before it has the id 'c1'"),
        ({"messages": [*TALK[:2], {"role": "tool", "content": "x"}]}, "tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "belong to the assistant"),
        ({"messages": [TALK[0], {"role": "assistant", "content": None}]}, "'content' is missing"),
        (
            {"messages": [TALK[0], {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}]},
            "no JSON",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "strin"}}}}}]},
            "tools: f: parameters",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(http, fields, told):
    response = chat(http, **fields)
    assert response.status_code == 400, response.text
    assert told in response.json()["error"]["message"]
    assert http.generator.asked == []


def test_json_or_calls(http, monkeypatch):
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    assert chat(http, tools=[WEATHER], response_format=schema).status_code == 200
    structure = http.generator.asked[-1][0][0].sampling.structure
    assert structure.parsed()["answer"] == {"type": "object"}
    assert http.generator.asked[-1][0][0].sampling.stop == ()

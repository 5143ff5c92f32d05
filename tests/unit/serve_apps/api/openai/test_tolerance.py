import pytest

from route_requests import chat


@pytest.mark.parametrize("wish", [{"max_tokens": -1}, {"max_tokens": None}, {"max_completion_tokens": -1}])
def test_no_wish_is_no_wish(http, wish):
    assert chat(http, **wish).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": ""}, {"stop": ["", "x"]}, {"top_k": None, "min_p": None, "min_tokens": None, "ignore_eos": None},
        {"stream_options": {"include_usage": True}}, {"stream_options": {}}, {"repetition_penalty": None},
        {"stream": True, "stream_options": {"include_usage": None, "continuous_usage_stats": False}},
        {"use_beam_search": False, "length_penalty": 1.0, "stop_token_ids": [], "guided_json": None, "priority": 0},
        {"skip_special_tokens": True, "add_generation_prompt": True, "chat_template_kwargs": {}, "request_id": "x"},
        {"keep_alive": "5m", "options": {}, "think": False, "format": ""},
        {"transforms": [], "models": [], "provider": {"order": ["x"]}, "usage": {"include": True}, "reasoning": None},
        {"top_logprobs": 0}, {"prompt_cache_retention": "24h"}, {"tools": [], "tool_choice": "none"},
    ],
)  # fmt: skip
def test_fields_of_other_servers_that_ask_for_nothing_are_tolerated(http, fields):
    response = chat(http, **fields)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "fields",
    [
        {"use_beam_search": True}, {"length_penalty": 2.0}, {"stop_token_ids": [5]}, {"think": True},
        {"options": {"num_ctx": 2048}}, {"transforms": ["middle-out"]}, {"plugins": [{"id": "web"}]}, {"best_of": 2},
    ],
)  # fmt: skip
def test_what_they_ask_for_is_refused_by_name(http, fields):
    error = chat(http, **fields).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_input", next(iter(fields)))


def test_messages_of_other_clients_are_tolerated(http):
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "hi", "name": "ann", "images": []},
        {"role": "assistant", "content": "hello", "tool_calls": [], "refusal": None, "reasoning_content": ""},
        {"role": "user", "content": "Who are you?", "cache_control": {"type": "ephemeral"}},
    ]
    assert chat(http, messages=messages).status_code == 200
    messages[2]["tool_calls"] = [{"id": "x"}]
    assert "tool_calls.0.function" in chat(http, messages=messages).json()["error"]["message"]

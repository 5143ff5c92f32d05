import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.errors import InputError
from llama_platform.models.tools import Tool, ToolCall, declare, read_arguments, sample, write_call, write_result

TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")


def test_functions_are_declared_one_to_a_line():
    schema = {"type": "object", "properties": {"ort": {"type": "string", "description": "größer <tools>"}}}
    text = declare([Tool("weather", "What the sky does.", schema), Tool("now")])
    lines = text.split("<tools>\n")[1].split("\n</tools>")[0].split("\n")
    assert [json.loads(line) for line in lines] == [
        {"name": "weather", "description": "What the sky does.", "parameters": schema},
        {"name": "now"},
    ]


@given(st.text() | st.sampled_from(TAGS).map(lambda tag: f"x{tag}y"), st.sampled_from([None, "f"]))
def test_a_result_holds_no_tag_and_can_be_read_back(text, name):
    written = write_result(name, text)
    inner = written.removeprefix("<tool_response>").removesuffix("</tool_response>")
    assert not any(tag in inner for tag in TAGS)
    found = json.loads(inner)
    assert found.get("name") == name
    try:
        assert found["content"] == json.loads(text) or text.strip() == "NaN"
    except ValueError:
        assert found["content"] == text


def test_calls():
    call = ToolCall("f", {"a": "</tool_call>", "b": [1, None]})
    inner = write_call(call).removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert json.loads(inner) == {"name": "f", "arguments": call.arguments}
    assert read_arguments("") == {}
    with pytest.raises(InputError, match="no JSON"):
        read_arguments("{")
    assert len(set(sample())) == len(sample())

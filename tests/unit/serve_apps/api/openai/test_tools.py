import pytest
from pydantic import ValidationError

from llama_platform.errors import InputError
from llama_platform.inference.structure import grammar_of, json_schema
from serve_apps.api.openai.tools import NamedTool, ToolIn, offered, structure_of_calls

F = ToolIn.model_validate({"type": "function", "function": {"name": "f", "parameters": {"properties": {}}}})
G = ToolIn.model_validate({"type": "function", "function": {"name": "g", "description": "does g"}})
CHOOSES_G = NamedTool.model_validate({"type": "function", "function": {"name": "g"}})


def test_what_is_offered():
    assert [tool.name for tool in offered([F, G], None)] == ["f", "g"]
    assert offered([F, G], "none") == offered([], "auto") == offered(None, None) == []
    assert offered([F], None)[0].parameters == {"type": "object", "properties": {}}
    for tools, choice, told in ([[F], CHOOSES_G, "'g'"], [[], "required", "needs"], [[F, F], None, "same name"]):
        with pytest.raises(InputError, match=told):
            offered(tools, choice)


def test_what_has_to_be_called():
    tools = offered([F, G], None)
    assert structure_of_calls(tools, None, True, None).begins_free()
    assert not structure_of_calls(tools, "auto", True, json_schema({"type": "null"})).begins_free()
    named = structure_of_calls(tools, CHOOSES_G, False, None).parsed()
    assert [name for name, _ in named["tools"]] == ["g"]
    assert named["required"]
    assert not named["several"]
    assert grammar_of(structure_of_calls(tools, "required", True, None))


@pytest.mark.parametrize(
    "function",
    [{"name": "a b"}, {"name": ""}, {"name": "f", "parameters": {"type": "string"}}, {"name": "f", "arguments": {}}],
)
def test_functions_that_cannot_be_called_are_refused(function):
    with pytest.raises(ValidationError):
        ToolIn.model_validate({"type": "function", "function": function})

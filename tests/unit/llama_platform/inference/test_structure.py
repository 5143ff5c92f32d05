import pytest

from llama_platform.errors import InputError
from llama_platform.inference.structure import (
    ANY_OBJECT,
    MAX_CHARS,
    Structure,
    choice,
    grammar_of,
    json_schema,
    tool_calls,
)
from llama_platform.models.tools import Tool, ToolCall, write_call


@pytest.mark.parametrize(
    "structure",
    [
        ANY_OBJECT,
        json_schema({"type": "array", "items": {"anyOf": [{"type": "null"}, {"const": "ü"}]}, "minItems": 1}),
        json_schema(
            {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
        ),
        Structure("regex", r"[a-z]+@[a-z]+\.(de|com)"),
        choice(['a "quoted" one', "two\nlines", "drei"]),
    ],
)
def test_what_can_be_kept_has_a_grammar(structure):
    assert "grammars" in grammar_of(structure)


F, G = Tool("f", "", {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}), Tool("g")
CALL_F = write_call(ToolCall("f", {"a": "</tool_call> ü"}))
CALL_G = write_call(ToolCall("g", {}))


@pytest.mark.parametrize(
    ("asked", "kept", "broken"),
    [
        (
            tool_calls([F, G], required=False, several=True),
            ["any text", "<tool_ca", f"I look. {CALL_F}", f"{CALL_G}\n{CALL_F}\n{CALL_G}"],
            [f"{CALL_G} and more", "<tool_call> x", write_call(ToolCall("h", {})), write_call(ToolCall("f", {"a": 1}))],
        ),
        (tool_calls([G], required=False, several=False), ["any text", f"x{CALL_G}"], [f"{CALL_G}\n{CALL_G}"]),
        (tool_calls([F, G], required=True, several=True), [CALL_F, f" {CALL_G}\n{CALL_F}"], ["text", f"text {CALL_G}"]),
        (
            tool_calls([G], required=False, several=False, answer=json_schema({"enum": [1, 2]})),
            ["1", CALL_G],
            ["3", f"1{CALL_G}", "text"],
        ),
    ],
)
def test_calls_are_kept_to_their_form(tiny_template, asked, kept, broken):
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    tokenizer = tiny_template.tokenizer
    known = from_tokenizer(tokenizer, n_vocab=len(tokenizer))

    def accepts(text):
        matcher = LLMatcher(known, grammar_of(asked), log_level=0)
        ids = known.tokenize_str(text)
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    assert [text for text in kept if not accepts(text)] == []
    assert [text for text in broken if accepts(text)] == []


@pytest.mark.parametrize(
    ("structure", "told"),
    [
        (json_schema({"type": "strin"}), "strin"),
        (json_schema({"type": "object", "if": {}}), "if"),
        (json_schema({"$ref": "http://elsewhere/x"}), "elsewhere"),
        (Structure("json", "{"), "json"),
        (Structure("regex", "(?=a)b"), "look-ahead"),
        (Structure("regex", "("), "regex"),
        (choice([]), "1 to"),
        (choice(["a", ""]), "empty"),
        (Structure("regex", "a" * (MAX_CHARS + 1)), "more than"),
    ],
)
def test_what_cannot_be_kept_is_named(structure, told):
    with pytest.raises(InputError, match=structure.kind) as caught:
        grammar_of(structure)
    assert told in str(caught.value)

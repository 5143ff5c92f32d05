import pytest

from llama_platform.errors import InputError
from llama_platform.inference.structure import ANY_OBJECT, MAX_CHARS, Structure, choice, grammar_of, json_schema


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

import pytest

from route_requests import chat


@pytest.mark.parametrize(
    ("fields", "kind", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "json", {"type": "object"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "null"}}}},
            "json", {"type": "null"},
        ),
        ({"guided_json": '{"type": "null"}'}, "json", {"type": "null"}),
        ({"guided_choice": ["a", "b"]}, "choice", ["a", "b"]),
        ({"structured_outputs": {"json": {"type": "null"}}}, "json", {"type": "null"}),
        ({"structured_outputs": {"json_object": True}}, "json", {"type": "object"}),
    ],
)  # fmt: skip
def test_structures_reach_the_engine(http, fields, kind, value):
    assert chat(http, **fields).status_code == 200
    sampling = http.generator.asked[0][0][0].sampling
    assert (sampling.structure.kind, sampling.structure.parsed()) == (kind, value)
    assert sampling.stop == ()  # what ends a turn may stand in a text


def test_empty_structures_ask_for_nothing(http):
    empty = {"guided_json": {}, "guided_regex": "", "guided_choice": [], "structured_outputs": {}}
    assert chat(http, **empty, response_format={"type": "text"}).status_code == 200
    assert http.generator.asked[0][0][0].sampling.structure is None

import pytest

from llama_platform.artifacts.refs import ArtifactRef, parse_ref
from llama_platform.errors import InputError


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("support", ArtifactRef("support", "production", None)),
        ("support@canary", ArtifactRef("support", "canary", None)),
        ("support@3", ArtifactRef("support", None, 3)),
    ],
)
def test_references(text, ref):
    assert parse_ref(text) == ref


@pytest.mark.parametrize("text", ["", "@", "a@", "a@0", "a@B", "a@b@c", "../a"])
def test_malformed_references_are_refused(text):
    with pytest.raises(InputError):
        parse_ref(text)


def test_versions_have_a_bounded_number_of_digits():
    with pytest.raises(InputError, match="at most 9 digits"):
        parse_ref("support@" + "9" * 5000)

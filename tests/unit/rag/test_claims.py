import pytest

from rag.claims import SUPPORTED, Passages, weight
from rag.documents.chunking import Chunk

SOURCES = [
    Chunk("ops.md", "Operations", "", "Roll back with adapters rollback and the name. It takes 3 seconds.", 0, 64),
    Chunk(
        "tea.md", "Tea", "Green tea",
        "Green tea is made with water of eighty degrees. It must not boil. Boil the water for black tea, which Earl "
        "Grey is. Steep it for 1,000 ms.", 0, 130,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "source"),
    [
        ("Roll back with the name of adapters.", 1),
        ("Green tea is made with water of eighty degrees.", 2),
        ("According to the documents, green tea is made with water of 80 degrees.", 2),
        ("Green tea must not boil.", 2),  # what the heading says belongs to it
        ("Steep Earl Grey for 1000 ms.", 2),
        ("Boil the water for black tea.", 2),
    ],
)
def test_what_a_source_says_is_supported(claim, source):
    score, found = Passages(SOURCES).judge(claim)
    assert (score >= SUPPORTED, found) == (True, source)


@pytest.mark.parametrize(
    "claim",
    [
        "Bicycles have wheels.",
        "Green tea is made with water of ninety degrees.",
        "Green tea is made with water of 81 degrees.",
        "Green tea is not made with water of eighty degrees.",
        "Green tea must boil.",
        "Do not boil the water for black tea.",
        "Boil the water for black tea, which Lapsang is.",
        "Rollback of adapters takes 30 seconds.",
        "It is made with wheels, bicycles and water.",
    ],
)
def test_what_no_source_says_is_not(claim):
    assert Passages(SOURCES).judge(claim)[0] < SUPPORTED


def test_only_the_sources_that_are_named_count():
    passages = Passages(SOURCES)
    assert passages.judge("Green tea is made with water.", [2]) == (1.0, 2)
    assert passages.judge("Green tea is made with water.", [1])[0] < SUPPORTED
    assert Passages([]).judge("Green tea.") == (0.0, None)


def test_what_says_nothing_needs_no_source():
    assert Passages(SOURCES).judge("It is.") == (1.0, None)
    assert (weight("According to the documents, it is."), weight("Green tea.")) == (0, 2)

import pytest

from rag.documents.chunking import Chunk
from rag.grounding import grounded

SOURCES = [
    Chunk("ops.md", "Operations", "", "Roll back with adapters rollback and the name.", 0, 46),
    Chunk("tea.md", "Tea", "", "Green tea is made with water of eighty degrees.", 0, 47),
]


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("Roll back with the name of adapters. [1]", 1.0),
        ("Green tea is made with water of eighty degrees [2].", 1.0),
        ("Green tea is made with water of eighty degrees [1].", 0.0),
        ("Green tea, made with water. Bicycles have wheels.", 4 / 7),
        ("The with statement wraps a block.", 0.0),
        ("", 0.0),
        ("[1]", 0.0),
    ],
)
def test_words_are_looked_for_in_the_sources_that_are_cited(answer, share):
    assert grounded(answer, SOURCES) == pytest.approx(share, abs=0.01)

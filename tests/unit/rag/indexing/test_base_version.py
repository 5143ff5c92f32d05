import numpy as np

from rag.documents.chunking import Chunk
from rag.indexing.base_version import Previous, read_previous


def chunk(text: str) -> Chunk:
    return Chunk(document="a.md", title="", heading="", text=text, start=0, end=len(text))


def test_without_a_version_nothing_is_known(repository):
    previous = read_previous(repository, "docs", "f" * 64)
    assert (previous.number, previous.known([chunk("a")])) == (0, [-1])


def test_vectors_of_the_same_text_are_taken_over():
    vectors = np.arange(6, dtype=np.float16).reshape(3, 2)
    previous = Previous(1, (), [chunk("a"), chunk("b"), chunk("c")], vectors)
    rows = previous.known([chunk("c"), chunk("new"), chunk("a")])
    assert rows == [2, -1, 0]
    filled = np.zeros((3, 2), dtype=np.float16)
    previous.fill(filled, rows)
    assert filled.tolist() == [[4, 5], [0, 0], [0, 1]]


def test_vectors_of_another_model_are_not_taken():
    previous = Previous(1, (), [chunk("a")], None)
    assert previous.known([chunk("a")]) == [-1]
    filled = np.ones((1, 2), dtype=np.float16)
    previous.fill(filled, [-1])
    assert filled.tolist() == [[1, 1]]

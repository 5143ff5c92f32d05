import pytest

from rag.documents.chunking import Chunk
from rag.search.query import Hit, SearchResult, merge


def hit(name, score):
    return Hit(Chunk(name, name, "", "text", 0, 4), 0, score)


def test_of_several_searches_the_best_hits_are_taken_and_times_are_added():
    first = SearchResult([hit("a", 0.9), hit("b", 0.2)], {"search_ms": 1.5}, 2)
    second = SearchResult([hit("c", 0.5)], {"search_ms": 2.0, "embed_ms": 1.0})
    merged = merge([first, second], 2)
    assert [one.chunk.document for one in merged.hits] == ["a", "c"]
    assert merged.timings_ms == {"search_ms": pytest.approx(3.5), "embed_ms": 1.0}
    assert merged.question_parts == 2


def test_of_one_search_the_order_stays():
    only = SearchResult([hit("a", 0.1), hit("b", 0.9)], {})
    assert [one.chunk.document for one in merge([SearchResult([], {}), only], 5).hits] == ["a", "b"]

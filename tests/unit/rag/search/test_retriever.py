import pytest

from llama_platform.errors import InputError
from rag.search.filters import Filters
from rag.search.query import Query
from rag.search.retriever import Retriever


@pytest.fixture
def snapshot(snapshot_of, make_chunk):
    return snapshot_of([
        make_chunk("green tea with water", "tea.md", tags=("hot",)),
        make_chunk("install the operator with helm", "helm.md"),
        make_chunk("black coffee beans", "coffee.md", tags=("hot",)),
        make_chunk("Install the operator with helm", "copy.md"),
    ])  # fmt: skip


@pytest.fixture
def search(snapshot, embedder):
    def search(question, reranker=None, **fields):
        retriever = Retriever(snapshot, (embedder.name, embedder.fingerprint), reranker)
        return retriever.search(Query(question, **fields), embedder.embed([question])[0])

    return search


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_best_comes_first_with_a_score_of_the_same_meaning(search, mode):
    found = search("install the operator with helm", k=3, mode=mode)
    assert found.hits[0].row == 1
    assert found.hits[0].score == pytest.approx(1, abs=1e-3)
    assert all(0 <= hit.score <= 1 for hit in found.hits)
    assert found.timings_ms["search_ms"] > 0


def test_equal_texts_are_one_hit_with_all_their_places(snapshot_of, make_chunk, embedder):
    copies = [make_chunk("green tea", name) for name in ("a.md", "b.md", "c.md")]
    retriever = Retriever(
        snapshot_of([*copies, make_chunk("Green tea", "d.md")]), (embedder.name, embedder.fingerprint)
    )
    first, second = retriever.search(Query("green tea", mode="lexical"), embedder.embed(["green tea"])[0]).hits
    assert [first.chunk.document, *(chunk.document for chunk in first.same)] == ["a.md", "b.md", "c.md"]
    assert (second.chunk.document, second.same) == ("d.md", ())


def test_the_best_part_of_a_long_question_counts(search, snapshot, embedder):
    retriever = Retriever(snapshot, (embedder.name, embedder.fingerprint))
    vectors = embedder.embed(["pasted text about nothing at all", "green tea with water"])
    found = retriever.search(Query("?", k=1, mode="dense"), vectors)
    assert (found.hits[0].chunk.document, found.question_parts) == ("tea.md", 2)
    assert found.hits[0].score == pytest.approx(1, abs=1e-3)


def test_filters_come_before_ranking(search):
    hot = Filters(tag="hot")
    assert [hit.row for hit in search("install the operator with coffee", k=1, filters=hot).hits] == [2]
    assert search("tea", k=3, filters=Filters(tag="cold")).hits == []


def test_a_reranker_has_the_last_word(search):
    class LikesCoffee:
        def scores(self, question, texts):
            return [0.9 if "coffee" in text else 0.1 for text in texts]

    found = search("install the operator with helm", LikesCoffee(), k=2)
    assert [(hit.row, hit.score) for hit in found.hits] == [(2, 0.9), (0, 0.1)]
    assert "rerank_ms" in found.timings_ms


def test_an_index_of_another_embedding_model_is_refused_with_both_names(snapshot):
    with pytest.raises(InputError, match=r"'fake' \(ffffffff\).*'other' \(00000000\)"):
        Retriever(snapshot, ("other", "0" * 64))


def test_scores_are_of_what_is_judged_and_ranks_of_the_whole(snapshot, embedder):
    retriever = Retriever(snapshot, (embedder.name, embedder.fingerprint))
    query = Query("install the operator with helm black", judged="black")
    vector, judged = embedder.embed([query.question, "black"])
    alone, found = retriever.search(Query(query.question), vector), retriever.search(query, vector, judged)
    assert [hit.row for hit in found.hits] == [hit.row for hit in alone.hits]
    assert found.hits[0].score < alone.hits[0].score
    assert (found.coverage, alone.coverage) == (1.0, pytest.approx(0.7, abs=0.2))


def test_the_weight_of_meaning_decides_where_meaning_and_words_differ(snapshot_of, make_chunk, embedder):
    chunks = [make_chunk("tea tea tea tea tea tea tea tea", "far.md"), make_chunk("green leaves", "near.md")]
    retriever = Retriever(snapshot_of(chunks), (embedder.name, embedder.fingerprint))
    vector = embedder.embed(["green leaves"])[0]
    first = [retriever.search(Query("tea", dense_weight=weight), vector).hits[0].row for weight in (0.0, 1.0)]
    assert first == [0, 1]

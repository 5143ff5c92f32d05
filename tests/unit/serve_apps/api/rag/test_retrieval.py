import pytest

from llama_platform.errors import EngineError
from rag.documents.chunking import Chunk
from rag.search.query import Hit, SearchResult
from route_requests import answer_with, prompt_of
from serve_apps.api.rag.retrieval import _near_enough
from serve_apps.config import RagConfig


def test_filters_and_modes_reach_the_search(rag):
    body = {
        "question": "install the operator with water",
        "filters": {"tag": "x"},
        "mode": "lexical",
        "max_new_tokens": 5,
    }
    answer = rag.post("/rag", body).json()
    assert [s["document"] for s in answer["sources"]] == ["tea.md"]
    assert rag.searcher.queries[-1].mode == "lexical"
    assert rag.post("/rag", {**body, "filters": {"tag": "none"}}).json()["in_documents"] is False


def test_inline_documents_are_searched_instead_or_beside(rag, make_http):
    inline = [{"text": "# Soup\n\nSoup is made of onions.", "id": "soup.md", "title": "Soup"}, {"text": "Bread."}]
    body = {"question": "What is soup made of?", "documents": inline, "max_new_tokens": 5}
    answer = rag.post("/rag", body).json()
    assert {s["document"] for s in answer["sources"]} == {"soup.md", "document-2"}
    assert answer["index"] is None
    both = rag.post("/rag", {**body, "index": "docs", "question": "green tea soup"}).json()
    assert {"soup.md", "tea.md"} <= {s["document"] for s in both["sources"]}
    assert both["index"]["version"] == 3


def test_retrieved_text_cannot_end_its_turn(rag, tiny_template):
    rag.post("/rag", {"question": "Secret obey sure", "top_k": 1, "max_new_tokens": 5})
    prompt = prompt_of(rag, tiny_template)
    assert prompt.count("### Human:") == 1
    assert prompt.count("### Assistant:") == 1


def test_the_last_question_of_a_chat_is_searched_with_those_before(rag, tiny_template):
    turns = [
        {"role": "user", "content": "How is green tea made?"},
        {"role": "assistant", "content": "With hot water."},
        {"role": "user", "content": "How hot?"},
    ]
    answer = rag.post("/rag", {"messages": turns, "max_new_tokens": 5}).json()
    assert rag.searcher.queries[-1].question == "How hot?\nHow is green tea made?"
    assert answer["sources"][0]["document"] == "tea.md"
    assert answer["question"] == "How hot?"
    assert "With hot water." in prompt_of(rag, tiny_template)


def test_the_model_may_write_the_question_anew(make_rag, monkeypatch, tiny_template):
    http = make_rag(rag={"standalone": "model"})
    answer_with(http, monkeypatch, ["How hot must water for green tea be?\n"])
    turns = [
        {"role": "user", "content": "How is green tea made?"},
        {"role": "assistant", "content": "With hot water."},
        {"role": "user", "content": "How hot?"},
    ]
    answer = http.post("/rag", {"messages": turns, "max_new_tokens": 5}).json()
    assert answer["question"] == http.searcher.queries[-1].question == "How hot must water for green tea be?"
    assert answer["timings"]["standalone_ms"] > 0
    answer_with(http, monkeypatch, [EngineError("broken")])
    assert http.post("/rag", {"messages": turns, "max_new_tokens": 5}).json()["question"] == "How hot?"


@pytest.mark.parametrize(
    ("question", "near"),
    [
        ("What does A343 cost?", True),
        ("error 0x80070005", True),
        ("Who won in 1974?", False),
        ("What does it cost?", False),
    ],
)
def test_a_code_that_a_source_holds_is_near_enough(question, near):
    chunk = Chunk("prices.pdf", "prices", "", "A343 19 1115.26 6\n0x80070005 since 1974", 0, 39)
    assert _near_enough(SearchResult([Hit(chunk, 0, 0.01)]), [], RagConfig(), question) is near


@pytest.mark.parametrize(("score", "coverage", "near"), [(0.5, 0.9, True), (0.5, 0.3, False), (0.1, 0.9, False)])
def test_both_meaning_and_words_may_be_asked_for(score, coverage, near):
    found = SearchResult([Hit(Chunk("tea.md", "Tea", "", "Green tea.", 0, 10), 0, score)], coverage=coverage)
    assert _near_enough(found, [], RagConfig(min_coverage=0.5), "tea") is near


def test_what_was_said_before_lifts_no_score(rag):
    """A question that says enough is judged by itself; one that points at what was said is judged with it."""
    before = [{"role": "user", "content": "How is green tea made?"}, {"role": "assistant", "content": "With water."}]

    def ask(question):
        return rag.post(
            "/rag", {"messages": [*before, {"role": "user", "content": question}], "max_new_tokens": 5}
        ).json()

    foreign = ask("Who won the World Cup?")
    assert (foreign["in_documents"], rag.searcher.queries[-1].judged) == (False, "Who won the World Cup?")
    pointing = ask("And how hot must it be?")
    assert (pointing["in_documents"], rag.searcher.queries[-1].judged) == (True, None)
    assert 0 < pointing["coverage"] < 1

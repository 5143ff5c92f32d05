from rag.chunking import Chunk
from rag.prompt import build_messages, fit_sources
from rag.retriever import Hit


def hit(text, row=0):
    return Hit(Chunk("a.md", "Guide", "Install", text, 0, len(text)), row, 0.5)


def words(messages):
    return len(messages[0].content.split())


def test_sources_are_numbered_and_named():
    (message,) = build_messages("Why?", [hit("first"), hit("second")])
    assert message.content == (
        "Answer from the sources and cite them by number.\n\n"
        "[1] Guide > Install\nfirst\n\n[2] Guide > Install\nsecond\n\nQuestion: Why?"
    )


def test_sources_fit_the_budget_best_first():
    hits = [hit("a " * 10, 0), hit("b " * 1000, 1), hit("c " * 10, 2)]
    fitting = fit_sources("Why?", hits, 60, words)
    assert [h.row for h in fitting] == [0, 2]
    assert words(build_messages("Why?", fitting)) <= 60
    assert fit_sources("Why?", hits, 5, words) == []

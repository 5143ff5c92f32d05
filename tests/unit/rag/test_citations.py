import pytest

from rag.citations import CitationChecker, extracts, is_beside
from rag.documents.chunking import Chunk

TEXT = "Promote makes a version live. Roll back with `rollback NAME`. It goes to the one before."
SOURCES = [Chunk("a.md", "A", "", TEXT, 100, 100 + len(TEXT)), Chunk("b.md", "B", "", "Tea is hot.", 0, 11)]


@pytest.fixture(params=[1, 3, 1000])
def check(request):
    """Feed an answer in pieces of this many characters."""

    def check(answer):
        checker = CitationChecker(SOURCES)
        pieces = [checker.feed(answer[i : i + request.param]) for i in range(0, len(answer), request.param)]
        assert "".join(pieces) + checker.finish() == checker.text
        return checker

    return check


def test_a_citation_points_at_the_sentence(check):
    found = check("Use the rollback command to roll back [1].")
    (citation,) = found.citations
    assert citation.text == "Roll back with `rollback NAME`."
    assert TEXT[citation.span[0] - 100 : citation.span[1] - 100] == citation.text
    assert found.text[citation.at :] == "[1]."


@pytest.mark.parametrize(
    ("answer", "text", "numbers", "removed"),
    [
        ("Fine [1]. Not so [7].", "Fine [1]. Not so.", [1], 1),
        ("Both [1, 9] and [2][3].", "Both [1] and [2].", [1, 2], 2),
        ("[0] leads [Source 2] on", "leads [2] on", [2], 1),
        ("a [1;2] b", "a [1, 2] b", [1, 2], 0),
        ("x[5] and f(y)[7] stay, `a [9]` too", "x[5] and f(y)[7] stay, `a [9]` too", [], 0),
        ("```\nlist [8]\n``` then [8]", "```\nlist [8]\n``` then", [], 1),
        ("a [link](u) [no", "a [link](u) [no", [], 0),
        ("  padded [99999] in [2024]", "padded [99999] in [2024]", [], 0),
        (" [1] begins", "[1] begins", [1], 0),
        ("", "", [], 0),
    ],
)
def test_citations_of_what_is_not_there_go(check, answer, text, numbers, removed):
    found = check(answer)
    assert (found.text, [c.n for c in found.citations], found.removed) == (text, numbers, removed)


def test_a_quotation_must_be_in_its_source(check):
    found = check('It says "goes to the  One before" [1] and “never goes there” [1], or "goes to the one before" [2].')
    assert found.text == 'It says "goes to the  One before" [1] and “never goes there”, or "goes to the one before".'
    assert [(c.n, c.text) for c in found.citations] == [(1, "goes to the one before")]
    assert found.removed == 2


def test_quotations_of_several_sources_are_each_looked_for_in_all(check):
    found = check('"makes a version live" and "Tea is hot" [1, 2]. "Promote makes a version live. Roll back" [1].')
    assert [c.n for c in found.citations] == [1, 2, 1]
    assert found.removed == 0
    assert check('"makes a version live" and "Tea is cold" [1, 2].').removed == 2


def test_what_is_like_no_sentence_points_at_the_whole_source(check):
    (citation,) = check("Zzyzx [2]").citations
    assert citation.span == (0, 11)


def test_extracts_cite_where_they_are_from():
    text = extracts(SOURCES, "How do I roll back?")
    assert text == "Roll back with `rollback NAME`. [1]"
    checker = CitationChecker(SOURCES)
    assert checker.feed(text) + checker.finish() == text
    assert [c.n for c in checker.citations] == [1]


def test_extracts_are_whole_sentences_and_single_rows():
    text = "A worker is started\nagain when it dies.\n\n| case | answer |\n| a node is drained | a checkpoint, then the end |"
    source = [Chunk("a.md", "A", "", text, 0, len(text))]
    assert extracts(source, "When is a worker started?") == "A worker is started again when it dies. [1]"
    assert extracts(source, "node drained?") == "| a node is drained | a checkpoint, then the end | [1]"
    assert extracts(source, "okapi") == "A worker is started again when it dies. [1]"


def test_what_is_beside_a_question():
    asked, extract = "How do I roll back an adapter?", "The command rolls an adapter back."
    assert is_beside(
        "It splits users between two adapters.", "A rollback rolls the adapter back.", "roll adapter back now"
    )
    assert not is_beside("Roll it back.", extract, asked)
    assert not is_beside("Anything.", "Something else.", asked)

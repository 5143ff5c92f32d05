import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.claim_checker import MOST_HELD, ClaimChecker
from rag.documents.chunking import Chunk

SOURCES = [
    Chunk("ops.md", "Operations", "", "Roll back with adapters rollback and the name.", 0, 46),
    Chunk("tea.md", "Tea", "", "Green tea is made with water of eighty degrees.", 0, 47),
]
TEA, WRONG = "Green tea is made with water of eighty degrees", "The with statement wraps a block"


def check(pieces, **options):
    checker = ClaimChecker(SOURCES, **options)
    shown = "".join([*map(checker.feed, pieces), checker.finish()])
    assert shown == checker.text
    return checker


@pytest.mark.parametrize(
    ("answer", "text", "claims", "removed", "grounded"),
    [
        (f"{TEA} [2].", f"{TEA} [2].", [(TEA, True, 2)], 0, 1.0),
        (f"{TEA}. [2]", f"{TEA}. [2]", [(f"{TEA}.", True, 2)], 0, 1.0),
        (f"{TEA} [1].", f"{TEA}.", [(TEA, True, 2)], 1, 1.0),  # true, but not by that source
        (f"{WRONG} [1]. {TEA} [2].", f"{WRONG}. {TEA} [2].", [(WRONG, False, None), (TEA, True, 2)], 1, 6 / 9),
        (
            f"{TEA} [2], and roll back with the name [1].", f"{TEA} [2], and roll back with the name [1].",
            [(TEA, True, 2), (", and roll back with the name", True, 1)], 0, 1.0,
        ),
        (f"{TEA} [1][2].", f"{TEA} [1][2].", [(TEA, True, 2)], 0, 1.0),
        (f"{TEA} [7].", f"{TEA}.", [(TEA, True, 2)], 1, 1.0),
        (f"{WRONG}.", f"{WRONG}.", [(f"{WRONG}.", False, None)], 0, 0.0),
        ("It is. [1]", "It is. [1]", [], 0, 0.0),
        ("", "", [], 0, 0.0),
    ],
)  # fmt: skip
def test_sentences_are_held_against_their_sources(answer, text, claims, removed, grounded):
    for pieces in ([answer], list(answer)):
        checker = check(pieces)
        assert checker.text.strip() == text
        assert [(claim.text, claim.supported, claim.source) for claim in checker.claims] == claims
        assert checker.removed == removed
        assert checker.grounded() == pytest.approx(grounded, abs=0.01)
        for claim in checker.claims:
            assert checker.text[slice(*claim.span)] == claim.text


PARTS = st.sampled_from([TEA, WRONG, " [1]", " [2]", ". ", "\n", "[", "1]", " x", "`a[1]`", "! "])


@given(st.lists(PARTS, max_size=14), st.data())
def test_however_an_answer_is_cut_the_same_is_shown(parts, data):
    answer = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    whole, cut = check([answer]), check(pieces)
    assert (whole.text, whole.claims, whole.removed) == (cut.text, cut.claims, cut.removed)


def test_a_stream_goes_on_sentence_by_sentence():
    checker = ClaimChecker(SOURCES)
    assert checker.feed(f"{TEA} [2]. Ro") == f"{TEA} [2]."
    assert checker.feed("ll back with the name") == ""
    assert checker.finish() == " Roll back with the name"


def test_a_text_without_ends_is_not_held_for_ever():
    checker = ClaimChecker(SOURCES)
    shown = "".join(checker.feed("word ") for _ in range(1000))
    assert len(shown) > 5000 - 2 * MOST_HELD


def test_text_may_come_as_it_is_written():
    checker = ClaimChecker(SOURCES, hold=False)
    assert checker.feed("Green tea") == "Green tea"
    checker.feed(f" is made with water of eighty degrees [2]. {WRONG} [1].")
    checker.finish()
    assert [(claim.supported, claim.source) for claim in checker.claims] == [(True, 2), (False, None)]
    assert checker.removed == 0
    assert [checker.text[slice(*claim.span)] for claim in checker.claims] == [claim.text for claim in checker.claims]


def test_without_sources_nothing_is_judged():
    checker = ClaimChecker([])
    assert checker.feed("By ") == "By"
    assert checker.feed("heart [1].") == " heart."
    assert (checker.claims, checker.removed) == ([], 1)


@pytest.mark.parametrize(
    "answer",
    [
        "```python\nx = rows[1]\ny = total[2] + 3\n```",
        "Use `rows[1]` and `total[2]`.",
        "So a = b[1] holds.",
        "So a = b(x)[1] holds.",
    ],
)
def test_code_and_subscripts_are_left_alone(answer):
    for pieces in ([answer], list(answer)):
        checker = check(pieces)
        assert (checker.text.strip(), checker.removed) == (answer, 0)


def test_numbers_of_lists_and_words_that_begin_something_are_no_claims_of_their_own():
    checker = check([f"1. {TEA} [2].\n2. Then, roll back with the name [1].\n- **Note:** Roll back with the name [1]."])
    assert checker.removed == 0
    assert checker.grounded() == 1.0


def test_sentences_that_are_said_twice_have_places_of_their_own():
    checker = check([f"{TEA} [2]. {TEA} [2]."], hold=False)
    assert [claim.span[0] for claim in checker.claims] == [0, len(f"{TEA} [2]. ")]


@pytest.mark.parametrize("hold", [True, False])
def test_a_claim_said_twice_in_one_sentence_stands_in_two_places(hold):
    checker = check([f"{TEA} [2] {TEA} [2]."], hold=hold)
    assert [claim.text for claim in checker.claims] == [TEA, TEA]
    assert [claim.span for claim in checker.claims] == [(0, len(TEA)), (len(TEA) + 5, 2 * len(TEA) + 5)]

import numpy as np
import pytest

from rag.lexical_index import LexicalIndex, terms

TEXTS = [
    "Install the operator with Helm.",
    "Installing charts needs Helm version three.",
    "Green tea needs hot water.",
    "Error E1234 means that the disk is full.",
]


@pytest.fixture
def index():
    return LexicalIndex.build(TEXTS)


def test_words_are_found_in_any_form_and_case(index):
    assert index.search("INSTALLATION of the operators", 2)[0] == 0
    assert set(index.search("helm", 10)) == {0, 1}
    assert list(index.search("what is e1234?", 10)) == [3]


def test_rare_words_count_more(index):
    assert index.search("needs tea", 2)[0] == 2


def test_nothing_is_found_without_a_common_word(index):
    assert list(index.search("zebra", 3)) == []
    assert list(index.search("the of and", 3)) == []
    assert list(index.search("", 3)) == []


def test_only_what_is_allowed_is_found(index):
    assert list(index.search("helm", 10, np.array([False, True, True, True]))) == [1]


def test_scores_agree_with_the_formula(index):
    """Lucene's BM25: idf · tf / (tf + k1 · (1 - b + b · length / mean length))."""
    lengths = [len(found) for found in terms(TEXTS)]
    idf = np.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 1 / (1 + 1.5 * (0.25 + 0.75 * lengths[2] / np.mean(lengths)))
    assert index.scores("tea")[2] == pytest.approx(expected, rel=1e-5)


def test_an_index_comes_back_as_it_was(index):
    back = LexicalIndex(index.arrays, index.vocabulary, len(TEXTS))
    assert (back.scores("helm operator") == index.scores("helm operator")).all()


def test_the_same_texts_make_the_same_index_in_any_process(index):
    assert list(index.vocabulary) == sorted(index.vocabulary)
    assert list(index.vocabulary.values()) == list(range(len(index.vocabulary)))


def test_texts_without_a_single_word_can_be_indexed():
    assert list(LexicalIndex.build(["…", "the"]).search("the", 1)) == []


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("We write C++ here", "C++"), ("We write C# here", "c#"), ("Statistics in R", "R"), ("Row 5 of it", "5"),
        ("The IT department", "IT"), ("Release v2.0.1 is out", "v2.0.1"), ("It costs 1,299.00", "1299.00"),
        ("It costs 1,299.00", "1,299.00"), ("Error 0x80070005", "0x80070005"), ("caf\u00e9", "cafe\u0301"),
        ("\u0e01\u0e32\u0e23\u0e40\u0e14\u0e34\u0e19\u0e17\u0e32\u0e07", "\u0e40\u0e14\u0e34\u0e19"),
        ("\u6211\u4eec\u660e\u5929\u53bb\u5317\u4eac", "\u5317\u4eac"), ("state-of-the-art", "state of the art"),
    ],
)  # fmt: skip
def test_names_numbers_and_scripts_without_spaces_are_found(text, question):
    index = LexicalIndex.build(["Something else in another row", text, "and more of it"])
    assert index.search(question, 1).tolist() == [1]


def test_coverage_counts_rare_words_most():
    index = LexicalIndex.build(["green tea", "green grass", "green coffee", "black coffee"])
    assert index.coverage("green tea", ["Green tea is hot."]) == 1.0
    half, rare = (index.coverage("green tea", [text]) for text in ("green grass", "a cup of tea"))
    assert 0 < half < rare < 1
    assert index.coverage("green tea", ["green grass", "a cup of tea"]) == rare  # of one text, not of all together
    assert index.coverage("okapi tea", ["tea"]) < 0.5
    assert (index.coverage("the of", ["tea"]), index.coverage("tea", [])) == (0.0, 0.0)

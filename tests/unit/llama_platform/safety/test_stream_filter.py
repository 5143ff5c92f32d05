import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.safety.rules import PatternFinder, RuleSet
from llama_platform.safety.stream_filter import StreamFilter, screen

RULES = r"""
rules:
  - {name: names, terms: [Blue Heron, Northwind, ab ba], places: [input, output], action: redact}
  - {name: cards, pattern: '\b(?:\d{4}[ -]?){3}\d{4}\b', places: [output], action: redact}
  - {name: runs, pattern: 'aba|b{2,4}', places: [output], action: redact}
  - {name: personal, personal: [email, phone, secret], places: [output], action: redact}
  - {name: code, terms: [launch code], places: [output], action: block, tenants: [strict]}
  - {name: noted, terms: [tea], places: [output], action: flag}
"""
WORDS = st.sampled_from(
    ["Blue", "Heron", "Northwind", "blue heron", "launch", "code", "launch code", "4111 1111 1111 1111", "4111", "ab",
     "ba", "abab", "bbbbbb", "ada@example.com", "@", "ada", ".com", "(415) 555-0132", "415", "555-0132", "+49 30 901820",
     "sk-abcdefghijklmnopqrstuvwx01", "AKIAIOSFODNN7EXAMPLE", "tea", " ", "  ", "\n", "é", "日本", "."]
)  # fmt: skip


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    file = Path(tmp_path_factory.mktemp("rules"), "rules.yaml")
    file.write_text(RULES)
    return RuleSet.read(file)


def streamed(text, cuts, rules):
    """Return (what was sent, the filter, how many characters were held back at most) of a text cut into pieces."""
    stream, sent, given_chars, held, place = StreamFilter(rules), [], 0, 0, 0
    while place < len(text) and stream.blocked_by is None:
        piece = text[place : place + cuts[place % len(cuts)]]
        place += len(piece)
        sent.append(stream.feed(piece))
        given_chars += len(piece)
        held = max(held, given_chars - sum(map(len, sent)))
    if stream.blocked_by is None:
        sent.append(stream.finish())
    return "".join(sent), stream, held


@given(
    words=st.lists(WORDS, max_size=14), glue=st.sampled_from(["", " "]), cuts=st.lists(st.integers(1, 9), min_size=1)
)
@pytest.mark.parametrize("tenant", ["", "strict"])
def test_however_a_text_is_cut_the_same_is_sent(rules, tenant, words, glue, cuts):
    text, own = glue.join(words), rules.of(tenant, "output")
    sent, stream, _ = streamed(text, cuts, own)
    whole, uncut, _ = streamed(text, [len(text) or 1], own)
    assert sent == whole
    assert (stream.blocked_by, stream.redacted) == (uncut.blocked_by, uncut.redacted)
    forbidden = [r"\bnorthwind\b", r"\bblue\s{1,3}heron\b", r"ada@example\.com\b"]
    forbidden += [r"\blaunch\s{1,3}code\b"] * (tenant == "strict")
    for pattern in forbidden if glue else ():  # glued, words are parts of others
        assert not re.search(pattern, sent, re.IGNORECASE)


@given(text=st.text("abcdefgh xyz.\n", max_size=300), cuts=st.lists(st.integers(1, 20), min_size=1))
def test_text_without_matches_is_sent_as_it_is_and_held_back_by_a_window_at_most(rules, text, cuts):
    text = text.replace("aba", "x").replace("bb", "b").replace("ab ba", "")
    sent, stream, held = streamed(text, cuts, rules.of("", "output"))
    assert sent == text or stream.redacted
    longest_word = max(map(len, text.split()), default=0)
    assert held <= max(40, longest_word + 1) + max(cuts)


def test_an_answer_ends_before_what_is_blocked(rules):
    sent, stream, _ = streamed("the Launch  Code is 5", [1], rules.of("strict", "output"))
    assert (sent, stream.blocked_by) == ("the ", "code")
    assert stream.feed("more") == "" == stream.finish()


def test_what_is_only_noted_holds_nothing_back(rules):
    noted = [rule for rule in rules.of("", "output") if rule.action == "flag"]
    stream = StreamFilter(noted)
    assert [stream.feed(piece) for piece in ("te", "a")] == ["te", "a"]
    assert (stream.flagged(), stream.changes, stream.finish()) == (("noted",), False, "")


def test_words_cannot_be_hidden(rules):
    own = rules.of("", "input")
    assert screen("at nor\u200bthwind", own).text == "at [names]"
    unusual = "caf\u00e9 \ufb01ne \u200b"
    assert screen(unusual, own).text == unusual  # nothing was found: nothing is changed


def test_long_texts_with_many_matches_are_searched_in_linear_time(rules, monkeypatch):
    searched, first = [0], PatternFinder.first

    def counting(finder, text, start):
        searched[0] += len(text) - start
        return first(finder, text, start)

    monkeypatch.setattr(PatternFinder, "first", counting)
    own, text, counts = rules.of("", "output"), "Northwind ada@example.com (415) 555-0132 " * 50, []
    for times in (1, 8):
        searched[0] = 0
        assert len(screen(text * times, own).redacted) == 150 * times
        counts.append(searched[0])
    assert counts[1] < 12 * counts[0]  # 64 times, were it quadratic

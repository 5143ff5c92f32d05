import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.inference.detokenizer import Detokenizer


def stream(tokenizer, text, stop=()):
    detokenizer = Detokenizer(tokenizer, stop)
    pieces = []
    for token in tokenizer.encode(text, add_special_tokens=False):
        pieces.append(detokenizer.push([token]))
        if detokenizer.stopped:
            break
    return [*pieces, detokenizer.finish()], detokenizer


@given(text=st.text(st.sampled_from("aé漢🙂 \n"), min_size=1, max_size=30))
def test_pieces_join_to_the_text_and_never_hold_half_a_character(tiny_template, text):
    pieces, _ = stream(tiny_template.tokenizer, text)
    assert "".join(pieces) == text.lstrip(" ")
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("stop", ["###", "### Human:", "stop here"])
def test_nothing_of_a_stop_text_is_shown(tiny_template, stop):
    pieces, detokenizer = stream(tiny_template.tokenizer, f"An answer.\n{stop} more", (stop,))
    assert "".join(pieces) == "An answer.\n"
    assert detokenizer.stopped


def test_what_only_looked_like_a_stop_text_is_shown_in_the_end(tiny_template):
    pieces, detokenizer = stream(tiny_template.tokenizer, "issue ## 3", ("### Human:",))
    assert "".join(pieces) == "issue ## 3"
    assert not detokenizer.stopped

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from llama_platform.inference.detokenizer import Detokenizer, _overlap


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
    assert "".join(pieces) == text.removeprefix(" ")
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


@pytest.fixture(scope="module")
def spelling():
    """A tokenizer of Llama-2's kind: what is not in its small vocabulary is spelled in bytes."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz."]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


SCRIPTS = (
    "我们明天去北京看展览",
    "안녕하세요 반갑습니다",
    "నమస్కారం మీరు ఎలా",
    "🙂🎉👩‍👩‍👧 ok",
    "ça và đi",
    "mixed 漢 and ü end",
)


@pytest.mark.parametrize("text", SCRIPTS)
def test_an_answer_goes_on_with_any_script_wherever_its_prompt_ends(spelling, text):
    tokens = spelling(text, add_special_tokens=False)["input_ids"]
    # How many tokens each character takes, the space in front of all apart.
    ends = list(accumulate(1 if ord(c) < 128 else len(c.encode()) for c in text))
    for split in range(1, len(tokens)):
        detokenizer = Detokenizer(spelling, (), tokens[:split], continues=True)
        shown = [detokenizer.push([token]) for token in tokens[split:]] + [detokenizer.finish()]
        expected = "".join(c for c, end in zip(text, ends, strict=True) if end + 1 > split)
        assert "".join(shown) == expected, split
        assert "\ufffd" not in "".join(shown)


@pytest.mark.parametrize("answer", ["return x", "    return x", "\n  x", "漢"])
def test_indentation_of_an_answer_stays_and_the_space_before_it_goes(spelling, answer):
    prompt, whole = (spelling(text, add_special_tokens=False)["input_ids"] for text in ("a:", f"a: {answer}"))
    detokenizer = Detokenizer(spelling, (), prompt)
    shown = [detokenizer.push([token]) for token in whole[len(prompt) :]] + [detokenizer.finish()]
    assert "".join(shown) == answer


@given(text=st.text(st.sampled_from("ab"), max_size=12), stop=st.text(st.sampled_from("ab"), min_size=1, max_size=6))
def test_what_may_become_a_stop_text_is_the_longest_beginning_of_one(text, stop):
    lengths = [n for n in range(1, len(stop)) if text.endswith(stop[:n])]
    assert _overlap(text, stop) == max(lengths, default=0)


def test_no_stop_text_ends_an_answer_before_its_fewest_tokens(tiny_template):
    tokens = tiny_template.tokenizer.encode("one stop two stop three", add_special_tokens=False)
    first = len(tiny_template.tokenizer.encode("one stop two", add_special_tokens=False))
    detokenizer, shown = Detokenizer(tiny_template.tokenizer, ("stop",), (), first), []
    for token in tokens:
        shown.append(detokenizer.push([token]))
        if detokenizer.stopped:
            break
    assert "".join(shown) == "one stop two "

import pytest

from llama_platform.errors import InputError
from llama_platform.inference.protocol import check_prompt


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ((), "no tokens"),
        ((1,) * 8, "8 tokens; with an answer the context of 8 is too short"),
        ((1, -1), "outside of the vocabulary of 100"),
        ((1, 100), "outside of the vocabulary of 100"),
    ],
)
def test_prompts_that_cannot_be_answered_are_refused_with_the_reason(prompt, words):
    with pytest.raises(InputError, match=words):
        check_prompt(prompt, 8, 100)


def test_the_longest_prompt_leaves_room_for_one_token():
    check_prompt((0, 99, *[1] * 5), 8, 100)

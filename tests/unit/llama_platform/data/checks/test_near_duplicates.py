import pytest

from llama_platform.data.checks.near_duplicates import NearDuplicates, signature
from llama_platform.models.prompt import Message

STORY = " ".join(f"word{n}" for n in range(100))


def sign(text):
    return signature([Message("user", text)])


def test_changed_texts_are_near_and_others_are_not():
    seen = NearDuplicates(0.8)
    assert seen.add(sign(STORY)) == []
    assert seen.add(sign("something else entirely, about lamps and tables")) == []
    ((number, share),) = seen.add(sign(STORY + " and a new end"))
    assert number == 0
    assert share == pytest.approx(98 / 102, abs=0.08)
    assert seen.add(sign(STORY.upper().replace(" ", ", ")))[0] == (0, 1.0)


def test_the_last_one_can_be_taken_back():
    seen = NearDuplicates(0.8)
    seen.add(sign(STORY))
    seen.forget_last()
    assert seen.add(sign(STORY)) == []


def test_short_and_empty_texts_have_a_signature():
    assert len(sign("")) == len(sign("hi")) == len(sign(STORY))


def test_scripts_without_spaces_are_compared_by_the_character():
    chinese = "今天天气很好我们一起去公园散步然后吃饭看电影"
    seen = NearDuplicates(0.5)
    seen.add(sign(chinese))
    assert seen.add(sign(chinese + "吧"))


def test_a_system_turn_that_many_share_does_not_make_them_alike():
    system = Message("system", "You may call these functions: " + " ".join(f"function {n}" for n in range(200)))
    one, other = ([system, Message("user", text)] for text in ("what is the weather in Rome", "how tall is a giraffe"))
    assert signature(one) != signature(other)
    index = NearDuplicates(0.5)
    assert index.add(signature(one)) == index.add(signature(other)) == []

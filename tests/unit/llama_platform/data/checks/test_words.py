import pytest

from llama_platform.data.checks.words import repetition, words


def test_scripts_without_spaces_have_words():
    assert words("我爱你, ok") == ["我", "爱", "你", "ok"]


def test_repetition():
    assert repetition("a b c d e f") == 0
    assert repetition("a b c a b c a b c") == pytest.approx(1 - 3 / 7)
    assert repetition("") == repetition("one") == 0

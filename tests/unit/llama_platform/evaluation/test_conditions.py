import pytest

from llama_platform.errors import ConfigError
from llama_platform.evaluation.compare import Comparison, Scores
from llama_platform.evaluation.conditions import parse_condition

COMPARISON = Comparison(Scores("a", {"perplexity": 12.5}), Scores("b", {"perplexity": 12.0}), "d@1", 1, 1, [])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("perplexity > 12", True),
        ("perplexity>13", False),
        ("perplexity <= 12.5", True),
        ("perplexity > against", True),
        (" perplexity < against ", False),
    ],
)
def test_conditions(text, holds):
    assert parse_condition(text).holds(COMPARISON) is holds


@pytest.mark.parametrize("text", ["perplexity", "perplexity = 12", "speed > 3", "loss > many", ""])
def test_conditions_that_are_none_are_refused(text):
    with pytest.raises(ConfigError):
        parse_condition(text)


def test_a_condition_on_what_was_not_measured_is_an_error():
    with pytest.raises(ConfigError, match="answered_chats"):
        parse_condition("rouge_l < 0.5").holds(COMPARISON)

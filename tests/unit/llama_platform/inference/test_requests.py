import pytest
from pydantic import ValidationError

from llama_platform.inference.requests import MIN_TEMPERATURE, PredictRequest, effective_temperature
from llama_platform.models.prompt import Message


def test_a_prompt_is_a_chat_of_one_turn():
    assert PredictRequest(prompt="hi").to_messages() == [Message("user", "hi")]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert PredictRequest(messages=turns).to_messages() == [Message("system", "s"), Message("user", "u")]


@pytest.mark.parametrize(
    "body", [{}, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, {"prompt": "  "}]
)
def test_exactly_one_of_both_is_given(body):
    with pytest.raises(ValidationError):
        PredictRequest.model_validate(body)


def test_a_temperature_that_would_overflow_is_greedy():
    assert effective_temperature(MIN_TEMPERATURE / 2) == 0
    assert effective_temperature(MIN_TEMPERATURE) == MIN_TEMPERATURE
    sampling = PredictRequest(prompt="x", temperature=1e-9, stop=["a"]).sampling(("b",))
    assert (sampling.temperature, sampling.stop) == (0, ("a", "b"))

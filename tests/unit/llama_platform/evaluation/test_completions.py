import pytest
import torch

from llama_platform.evaluation.completions import Answer, Question, generate_answers, quality, rouge_l
from llama_platform.models.base_model import load_base_model
from llama_platform.models.prompt import Message


def ask(text, reference=None):
    return Question((Message("user", text),), reference)


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence():
    # Lin, 2004: «police killed the gunman» against «police kill the gunman» shares 3 of 4 words in order.
    assert rouge_l("police kill the gunman".split(), "police killed the gunman".split()) == 0.75
    assert rouge_l("the gunman kill police".split(), "police killed the gunman".split()) == 0.5
    assert rouge_l([], []) == 1
    assert rouge_l([], ["a"]) == 0


def test_quality_counts_what_is_wrong_with_answers():
    questions = [ask("a", "Yes, it is."), ask("b", "no"), ask("c", "one two three"), ask("d", "x")]
    answers = [Answer("yes it is", True), Answer("", True), Answer("one two", False), Answer("a b c a b c", True)]
    found = quality(questions, answers)
    assert (found.exact, found.empty, found.unstopped) == (0.25, 0.25, 0.25)
    assert found.rouge_l == pytest.approx((1 + 0 + 0.8 + 0) / 4)
    assert found.repetition == pytest.approx(0.25 / 4)


def test_answers_together_are_the_answers_alone(tiny_config, tiny_template):
    model = load_base_model(tiny_config).eval()
    questions = [ask("What is a lamp?"), ask("Hello"), ask("How do I boil an egg in a small pot of water at home?")]
    together = generate_answers(model, tiny_template, questions, 12, batch_size=3)
    alone = [generate_answers(model, tiny_template, [q], 12, batch_size=1)[0] for q in questions]
    assert together == alone
    (cut,) = generate_answers(model, tiny_template, questions[:1], 1, batch_size=1)
    assert not cut.stopped
    assert torch.is_grad_enabled()

"""Answers: generating them for many questions at once, and comparing them with the ones that people wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from rapidfuzz.distance import LCSseq

from llama_platform.data.checks.words import repetition, words
from llama_platform.data.split import evenly
from llama_platform.models.prompt import Message, PromptTemplate


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the answer that stands in the data; None where there is none."""

    messages: tuple[Message, ...]
    reference: str | None

    def text(self) -> str:
        """Return the user's turn."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer."""

    text: str
    stopped: bool
    """Whether the model ended it, rather than the bound on its length."""


@dataclass(frozen=True, slots=True)
class AnswerQuality:
    """Means over answers; each in [0, 1]."""

    exact: float
    """Share equal to the reference but for case, punctuation and spaces."""
    rouge_l: float
    """ROUGE-L F1 on words (Lin, 2004)."""
    repetition: float
    """Share of word triples that stood in the answer before."""
    empty: float
    """Share without a word."""
    unstopped: float
    """Share that ran into the bound on length."""


def held_out_questions(eval_file: Path, count: int) -> list[Question]:
    """Return first exchanges of held-out chats, with different questions: a sample of the file, in its order."""
    found: dict[tuple[Message, ...], str] = {}
    for messages in _chats(eval_file):
        first = next(i for i, m in enumerate(messages) if m.role == "assistant")
        found.setdefault(tuple(Message(m.role, m.content) for m in messages[:first]), messages[first].content)
    questions = [Question(asked, answer) for asked, answer in found.items()]
    keys = ["\0".join(message.content for message in question.messages).encode() for question in questions]
    return [questions[number] for number in evenly(keys, count)]


@torch.inference_mode()
def generate_answers(
    model: Any, template: PromptTemplate, questions: Sequence[Question], max_new_tokens: int, batch_size: int
) -> list[Answer]:
    """Return the greedy answers to questions, in their order.

    Args:
        model: a causal language model, its adapter already chosen.
        template: prompt template of the base.
        questions: conversations that end with a user's turn.
        max_new_tokens: longest answer.
        batch_size: prompts that are generated together; they are padded to the longest.
    """
    answers: dict[int, Answer] = {}
    prompts = [template.encode_prompt(question.messages) for question in questions]
    ordered = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(ordered), batch_size):
        chosen = ordered[start : start + batch_size]
        for index, answer in zip(
            chosen, _generate(model, template, [prompts[i] for i in chosen], max_new_tokens), strict=True
        ):
            answers[index] = answer
    return [answers[index] for index in range(len(prompts))]


def quality(questions: Sequence[Question], answers: Sequence[Answer]) -> AnswerQuality:
    """Compare answers with the references of their questions; at least one."""
    pairs = [(words(a.text), words(q.reference or "")) for q, a in zip(questions, answers, strict=True)]
    count = len(pairs)
    return AnswerQuality(
        exact=sum(said == wanted for said, wanted in pairs) / count,
        rouge_l=sum(rouge_l(said, wanted) for said, wanted in pairs) / count,
        repetition=sum(repetition(answer.text) for answer in answers) / count,
        empty=sum(not said for said, _ in pairs) / count,
        unstopped=sum(not answer.stopped for answer in answers) / count,
    )


def rouge_l(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence of words; 1 for two empty texts."""
    if not said and not wanted:
        return 1.0
    return 2 * float(LCSseq.similarity(said, wanted)) / (len(said) + len(wanted))


def _generate(
    model: Any, template: PromptTemplate, prompts: Sequence[list[int]], max_new_tokens: int
) -> Iterator[Answer]:
    device, pad = next(model.parameters()).device, template.pad_token_id()
    longest = max(map(len, prompts))
    # Padding stands on the left, so that every answer begins at the same place.
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    tokenizer = template.tokenizer
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
        stop_strings=list(template.stop_strings()),
        tokenizer=tokenizer,
    )
    for row in output[:, longest:].tolist():
        ended = tokenizer.eos_token_id in row
        text = tokenizer.decode(row[: row.index(tokenizer.eos_token_id)] if ended else row, skip_special_tokens=True)
        stops = [stop for stop in template.stop_strings() if stop in text]
        for stop in stops:
            text = text.partition(stop)[0]
        yield Answer(text.strip(), ended or bool(stops))


def _chats(eval_file: Path) -> Iterator[list[Message]]:
    for batch in pq.ParquetFile(eval_file).iter_batches(columns=["messages"]):
        for messages in batch["messages"].to_pylist():
            yield [Message(**message) for message in messages]

"""Evaluation: loss and perplexity over held-out answers, and answers to read. Runs without Ray."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llama_platform.data.tokenize import IGNORED_LABEL, collate, load_tokenized
from llama_platform.errors import InputError
from llama_platform.models.adapter import open_adapter
from llama_platform.models.prompt import Message, PromptTemplate
from llama_platform.training.config import EvaluationConfig
from llama_platform.training.step import AnswerLoss


@dataclass(frozen=True, slots=True)
class Sample:
    """One question and both answers."""

    prompt: str
    base: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """An adapter beside its base on the same held-out chats."""

    chats: int
    answer_tokens: int
    loss_base: float
    loss_adapter: float
    samples: list[Sample]

    def perplexities(self) -> tuple[float, float]:
        """Return the perplexity of (base, adapter): e to the mean negative log-likelihood per answer token."""
        return math.exp(self.loss_base), math.exp(self.loss_adapter)


def eval_batches(rows: Sequence[dict[str, Any]], batch_size: int, pad_token_id: int) -> Iterator[dict[str, Any]]:
    """Yield collated batches of held-out chats, shortest first."""
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    for start in range(0, len(ordered), batch_size):
        yield collate(ordered[start : start + batch_size], pad_token_id)


@torch.inference_mode()
def answer_loss(module: Any, batches: Iterator[dict[str, Any]], device: torch.device) -> tuple[float, int]:
    """Return the summed negative log-likelihood and the number of answer tokens it is over."""
    total, tokens = 0.0, 0
    for batch in batches:
        total += module(**{key: value.to(device) for key, value in batch.items()}).item()
        tokens += int((batch["labels"][:, 1:] != IGNORED_LABEL).sum())
    return total, tokens


def compare(
    base: Any, adapter_folder: Path, eval_file: Path, template: PromptTemplate, config: EvaluationConfig, cache: Path
) -> Comparison:
    """Score the base with and without an adapter.

    Args:
        base: a loaded `LlamaForCausalLM`; it is moved to the GPU if there is one.
        adapter_folder: a PEFT folder.
        eval_file: `eval.parquet` of a dataset.
        template: the base's.
        config: how many chats and samples.
        cache: folder for tokenized data.

    Raises:
        InputError: there are no held-out chats.
    """
    rows = list(load_tokenized(eval_file, template, cache).select(range(_rows(eval_file, config.max_chats))))
    if not rows:
        raise InputError(f"{eval_file}: holds no chats to evaluate on")
    base.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    model = open_adapter(base, adapter_folder, "adapter")
    module = AnswerLoss(model).eval()
    device, pad = base.device, template.pad_token_id()

    def loss(*, adapter: bool) -> tuple[float, int]:
        with nullcontext() if adapter else model.disable_adapter():
            return answer_loss(module, eval_batches(rows, config.batch_size, pad), device)

    (base_sum, tokens), (adapter_sum, _) = loss(adapter=False), loss(adapter=True)
    samples = []
    for prompt in dict.fromkeys([*config.prompts, *first_questions(eval_file, config.samples)]):
        with model.disable_adapter():
            before = generate_answer(model, template, prompt, config.max_new_tokens)
        samples.append(Sample(prompt, before, generate_answer(model, template, prompt, config.max_new_tokens)))
    return Comparison(len(rows), tokens, base_sum / tokens, adapter_sum / tokens, samples)


def first_questions(eval_file: Path, count: int) -> list[str]:
    """Return the first user turns of held-out chats, all different, in the file's order."""
    import pyarrow.parquet as pq

    questions: dict[str, None] = {}
    for messages in pq.read_table(eval_file, columns=["messages"])["messages"].to_pylist():
        questions.setdefault(next(m["content"] for m in messages if m["role"] == "user"))
    return list(questions)[:count]


@torch.inference_mode()
def generate_answer(model: Any, template: PromptTemplate, question: str, max_new_tokens: int) -> str:
    """Return the greedy answer to one question."""
    tokenizer = template.tokenizer
    ids = torch.tensor([template.encode_prompt([Message("user", question)])], device=next(model.parameters()).device)
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=template.pad_token_id(),
        stop_strings=list(template.stop_strings()),
        tokenizer=tokenizer,
    )
    text = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    for stop in template.stop_strings():
        text = text.partition(stop)[0]
    return str(text.strip())


def _rows(eval_file: Path, bound: int) -> int:
    import pyarrow.parquet as pq

    return min(bound, int(pq.read_metadata(eval_file).num_rows))

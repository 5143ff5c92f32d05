"""Evaluation: how well a base answers held-out chats with one adapter or another. Runs without Ray."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llama_platform.artifacts.refs import BASE, resolve
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.data.dataset import find_dataset
from llama_platform.data.tokenize import IGNORED_LABEL, load_tokenized, sampled
from llama_platform.device import configured_device
from llama_platform.errors import InputError
from llama_platform.evaluation.completions import Question, generate_answers, held_out_questions, quality
from llama_platform.models.adapter import AdapterSet
from llama_platform.models.base_model import BaseConfig, load_base_model, load_template
from llama_platform.models.lineage import check_dataset, check_lineage
from llama_platform.models.prompt import Message, PromptTemplate
from llama_platform.training.batching.batches import eval_batches
from llama_platform.training.config import EvaluationConfig, FinetuneConfig
from llama_platform.training.objectives.answer_loss import AnswerLoss
from llama_platform.training.step import to_device

MEASURES = ("loss", "perplexity", "token_accuracy", "exact", "rouge_l", "repetition", "empty", "unstopped")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is evaluated: a version of an adapter, or the bare base."""

    label: str
    version: ArtifactVersion | None


@dataclass(frozen=True, slots=True)
class Scores:
    """What one candidate reached on the held-out chats."""

    label: str
    measures: dict[str, float]
    """By the names of MEASURES; those of the answers only if there were any."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question, what each candidate answered, and the held-out answer if there is one."""

    prompt: str
    answers: dict[str, str]
    reference: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate beside another on the same held-out chats."""

    candidate: Scores
    against: Scores
    dataset: str
    chats: int
    answer_tokens: int
    samples: list[Sample]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def find_candidate(repository: ArtifactRepository, ref: str | None, default_name: str) -> Candidate:
    """Return what a reference names: `base`, an adapter version, or for None the newest of `default_name`.

    Raises:
        NotFoundError: there is none.
    """
    if ref == BASE:
        return Candidate(BASE, None)
    version = repository.latest("adapter", default_name) if ref is None else resolve(repository, "adapter", ref)
    return Candidate(f"{version.name}@{version.version}", version)


def evaluate(repository: ArtifactRepository, config: FinetuneConfig, cache: Path) -> Comparison:
    """Compare the configured candidates on held-out chats: those of the dataset that the first was trained on.

    Args:
        repository: holds adapters and datasets.
        config: its `evaluation`, `base`, `data` and `adapter` count.
        cache: folder for tokenized data.

    Raises:
        NotFoundError: an adapter or the dataset is missing.
        InputError: both candidates are the same, there are no held-out chats, or these were prepared for other prompts.
        IntegrityError: an adapter was made for another base or other prompts.
    """
    settings, device = config.evaluation, configured_device(config.training.use_gpu)
    candidate = find_candidate(repository, settings.adapter, config.adapter.name)
    against = find_candidate(repository, settings.against, config.adapter.name)
    if candidate == against:
        raise InputError(f"evaluation: {candidate.label} is compared with itself; set evaluation.against")
    fingerprint = load_template(config.base).fingerprint()
    for one in (candidate, against):
        if one.version is not None:
            check_lineage(one.version, repository.manifest(one.version), config.base, fingerprint)
    dataset = _dataset(repository, config, candidate, against)
    check_dataset(dataset, repository.manifest(dataset), fingerprint)
    with repository.fetched(dataset) as folder:
        evaluator = Evaluator(config.base, folder / "eval.parquet", settings, cache, device)
    scores, answers = {}, {}
    for one in (candidate, against):
        with repository.fetched(one.version) if one.version else nullcontext() as adapter:
            scores[one.label], answers[one.label] = evaluator.evaluate(one.label, adapter)
    samples = [
        Sample(question.text(), {label: said[number] for label, said in answers.items()}, question.reference)
        for number, question in enumerate(evaluator.questions)
    ]
    return Comparison(
        scores[candidate.label],
        scores[against.label],
        f"{dataset.name}@{dataset.version}",
        evaluator.num_chats,
        evaluator.num_tokens,
        evaluator.shown(samples),
    )


class Evaluator:
    """A base and the held-out chats that it is evaluated on."""

    def __init__(
        self, base: BaseConfig, eval_file: Path, settings: EvaluationConfig, cache: Path, device: torch.device
    ) -> None:
        """Load the base.

        Args:
            base: base model of all adapters that will be compared.
            eval_file: Parquet file of held-out chats.
            settings: how many chats and questions, and how long the answers may be.
            cache: folder for tokenized chats.
            device: what the base computes on.

        Raises:
            InputError: the base cannot be loaded, or there are no held-out chats.
        """
        self._template: PromptTemplate = load_template(base)
        rows = load_tokenized(eval_file, self._template, cache)
        self._rows = list(sampled(rows, settings.max_chats))
        if not self._rows:
            raise InputError(f"{eval_file}: holds no chats to evaluate on")
        model = load_base_model(base, device).to(device)
        self._adapters, self._settings, self._device = AdapterSet(model), settings, model.device
        asked = [Question((Message("user", prompt),), None) for prompt in settings.prompts]
        self._measured = held_out_questions(eval_file, settings.answered_chats)
        self.questions = asked + self._measured
        self.num_chats = len(self._rows)
        self.num_tokens = 0

    def evaluate(self, label: str, folder: Path | None) -> tuple[Scores, list[str]]:
        """Return the scores of an adapter, None for the bare base, and its answers to all questions."""
        if folder is not None:
            self._adapters.load(label, folder)
        with self._adapters.active(label if folder is not None else None) as model:
            measures = self._likelihood(model)
            answers = generate_answers(
                model, self._template, self.questions, self._settings.max_new_tokens, self._settings.batch_size
            )
        if self._measured:
            measures |= asdict(quality(self._measured, answers[len(self.questions) - len(self._measured) :]))
        return Scores(label, measures), [answer.text for answer in answers]

    def shown(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples that are shown: all configured prompts and the first held-out questions."""
        return list(samples[: len(self._settings.prompts) + self._settings.samples])

    def _likelihood(self, model: Any) -> dict[str, float]:
        module, total, correct, tokens = AnswerLoss(model).eval(), 0.0, 0, 0
        pad = self._template.pad_token_id()
        for batch in eval_batches(self._rows, self._settings.batch_size, pad, packed=False):
            nll, hits = module.score(**to_device(batch, self._device))
            total, correct = total + nll, correct + hits
            tokens += int((batch["labels"][:, 1:] != IGNORED_LABEL).sum())
        self.num_tokens = tokens
        loss = total / max(tokens, 1)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700)), "token_accuracy": correct / max(tokens, 1)}


def _dataset(
    repository: ArtifactRepository, config: FinetuneConfig, candidate: Candidate, against: Candidate
) -> ArtifactVersion:
    for one in (candidate, against):
        trained_on = repository.manifest(one.version).metadata.get("dataset", {}) if one.version else {}
        if trained_on.get("version"):
            return repository.version("dataset", trained_on["name"], trained_on["version"])
    return find_dataset(repository, config.data.name, config.training.dataset_version)

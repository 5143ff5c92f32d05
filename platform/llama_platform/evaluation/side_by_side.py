"""Side by side: the same prompts answered by two or more adapters, on the engine that serves them."""

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_platform.artifacts.refs import BASE, resolve
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.data.checks.words import repetition, words
from llama_platform.errors import EngineError, InputError
from llama_platform.evaluation.completions import rouge_l
from llama_platform.inference.adapter_holder import AdapterHolder
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.make_engine import make_engine
from llama_platform.inference.protocol import Engine, FinishEvent, GenerationRequest, SamplingParams
from llama_platform.models.base_model import BaseConfig, load_template
from llama_platform.models.lineage import check_lineage
from llama_platform.models.prompt import STRIPS, Message, PromptTemplate
from llama_platform.pages import render_page
from llama_platform.processor import cores


@dataclass(frozen=True, slots=True)
class Answered:
    """What one adapter made of one prompt."""

    text: str
    tokens: int
    seconds: float
    ended: bool
    """Whether the model ended it, rather than the bound on its length."""


@dataclass(frozen=True, slots=True)
class Line:
    """One prompt with the answer of each adapter, in the order in which they were named."""

    prompt: str
    answers: tuple[Answered, ...]

    @property
    def same(self) -> bool:
        """Return whether all answers are the same to the last character."""
        return len({answer.text for answer in self.answers}) == 1


@dataclass(frozen=True, slots=True)
class SideBySide:
    """All of a comparison."""

    labels: tuple[str, ...]
    lines: tuple[Line, ...]

    def summary(self) -> list[dict[str, Any]]:
        """Return what can be counted of each adapter's answers: means over the prompts."""
        rows, count = [], len(self.lines)
        for number, label in enumerate(self.labels):
            answers = [line.answers[number] for line in self.lines]
            firsts = [line.answers[0].text for line in self.lines]
            alike = [rouge_l(words(a.text), words(first)) for a, first in zip(answers, firsts, strict=True)]
            rows.append(
                {
                    "adapter": label,
                    "same_as_the_first": sum(a.text == f for a, f in zip(answers, firsts, strict=True)) / count,
                    "rouge_l_with_the_first": sum(alike) / count,
                    "tokens": sum(a.tokens for a in answers) / count,
                    "unended": sum(not a.ended for a in answers) / count,
                    "empty": sum(not a.text.strip() for a in answers) / count,
                    "repetition": sum(repetition(a.text) for a in answers) / count,
                }
            )
        return rows


def read_prompts(file: Path) -> list[str]:
    """Return the prompts of a file: its lines or, of JSON lines, their `prompt`.

    Raises:
        InputError: it cannot be read, holds none, or a line of JSON has no prompt.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        prompts.append(_prompt(line, f"{file}:{number}") if file.suffix == ".jsonl" else line.strip())
    if not prompts:
        raise InputError(f"{file}: holds no prompts")
    return prompts


def answer_side_by_side(
    repository: ArtifactRepository,
    refs: Sequence[str],
    prompts: Sequence[str],
    max_new_tokens: int,
    base: str | None = None,
) -> SideBySide:
    """Answer prompts greedily with each adapter, on this machine's CPU.

    Args:
        repository: holds the adapters.
        refs: references of adapters, or `base`; two at least.
        prompts: what is asked, each as one user's turn.
        max_new_tokens: longest answer.
        base: base to load; None for the one that the first adapter was made for.

    Raises:
        InputError: fewer than two are named, or nothing tells which base is meant.
        NotFoundError: there is no such adapter.
        IntegrityError: an adapter was made for another base or other prompts.
    """
    if len(refs) < 2:
        raise InputError("compare: name two adapters at least, such as assistant@3 assistant@4")
    versions = [None if ref == BASE else resolve(repository, "adapter", ref) for ref in refs]
    config = _base_of(repository, versions, base)
    template = load_template(config)
    for version in versions:
        if version is not None:
            check_lineage(version, repository.manifest(version), config, template.fingerprint())
    engine = make_engine(config, template.tokenizer, cores(), EngineConfig(kind="torch", max_waiting=len(prompts)))
    labels = tuple(BASE if v is None else f"{v.name}@{v.version}" for v in versions)
    work = _columns(engine, repository, template, versions, prompts, max_new_tokens)
    with ThreadPoolExecutor(1) as pool:  # in a notebook this thread has a running loop, and no other can run in it
        columns = pool.submit(asyncio.run, work).result()
    rows = zip(*columns, strict=True)
    return SideBySide(labels, tuple(Line(prompt, row) for prompt, row in zip(prompts, rows, strict=True)))


def page(found: SideBySide) -> str:
    """Return a comparison as an HTML page that needs nothing else."""
    return render_page(__package__, "side_by_side.html.j2", found=found, summary=found.summary())


async def _columns(
    engine: Engine,
    repository: ArtifactRepository,
    template: PromptTemplate,
    versions: Sequence[ArtifactVersion | None],
    prompts: Sequence[str],
    max_new_tokens: int,
) -> list[list[Answered]]:
    """Return the answers of each version, in the order of the prompts, and close the engine."""
    holder, columns = AdapterHolder(engine, repository.fetched), []
    try:
        for version in versions:
            async with AsyncExitStack() as held:
                if version is not None:
                    await held.enter_async_context(holder.held(version))
                digest = None if version is None else version.digest
                asking = (_answer(engine, template, f"{n}", digest, p, max_new_tokens) for n, p in enumerate(prompts))
                columns.append(list(await asyncio.gather(*asking)))
    finally:
        await engine.close()
    return columns


async def _answer(
    engine: Engine, template: PromptTemplate, name: str, digest: str | None, prompt: str, max_new_tokens: int
) -> Answered:
    ids = tuple(template.encode_prompt([Message("user", prompt)]))
    sampling = SamplingParams(temperature=0.0, max_new_tokens=max_new_tokens, stop=template.stop_strings())
    request = GenerationRequest(request_id=name, prompt_ids=ids, sampling=sampling, adapter_digest=digest)
    texts, begun = [], time.perf_counter()
    async for event in engine.generate(request):
        if not isinstance(event, FinishEvent):
            texts.append(event.text)
            continue
        if event.reason == "error":
            raise EngineError(event.error or "the engine failed")
        text = STRIPS[template.style]("".join(texts))
        return Answered(text, event.usage.completion_tokens, time.perf_counter() - begun, event.reason == "stop")
    raise AssertionError("every answer has an end")


def _base_of(
    repository: ArtifactRepository, versions: Sequence[ArtifactVersion | None], base: str | None
) -> BaseConfig:
    facts = next((repository.manifest(version).metadata for version in versions if version is not None), {})
    model, style = base or facts.get("base"), facts.get("prompt_style", "plain")
    if not isinstance(model, str):
        raise InputError("compare: nothing tells which base the adapters were made for; name it with --base")
    return BaseConfig(model=model, prompt_style=style)


def _prompt(line: str, where: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: no JSON object with a prompt") from error
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{where}: prompt is no text")
    return prompt

"""Compares an adapter with its base on held-out chats.

python -m jobs.evaluate --config jobs/configs/tiny_lora_cpu.yaml --set evaluation.adapter=assistant@2
"""

import os
import sys
from collections.abc import Sequence

from jobs.arguments import parse_job_args
from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import absolute, repository_from
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion, parse_ref
from llama_platform.cli.exit_codes import run_command
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_base_model, load_template
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.evaluate import Comparison, compare


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(FinetuneConfig, __doc__ or "", argv)
        setup_logging()
        repository = repository_from(config.store, os.environ)
        version = find_adapter(repository, config)
        comparison = evaluate(repository, config, version)
        print(f"adapter {version.name}@{version.version} on {comparison.chats} held-out chats")
        before, after = comparison.perplexities()
        print(f"perplexity over {comparison.answer_tokens} answer tokens: base {before:.2f}, adapter {after:.2f}")
        for sample in comparison.samples:
            print(f"\n  asked:   {sample.prompt}\n  base:    {sample.base}\n  adapter: {sample.adapter}")

    return run_command(command)


def find_adapter(repository: ArtifactRepository, config: FinetuneConfig) -> ArtifactVersion:
    """Return the adapter that `evaluation.adapter` names, or the newest of `adapter.name`.

    Raises:
        NotFoundError: there is none.
    """
    if config.evaluation.adapter is None:
        return repository.latest("adapter", config.adapter.name)
    ref = parse_ref(config.evaluation.adapter)
    return Aliases(repository, "adapter", ref.name).resolve(ref, subject="")


def evaluate(repository: ArtifactRepository, config: FinetuneConfig, version: ArtifactVersion) -> Comparison:
    """Score `version` and its base on the held-out chats of the dataset that it was trained on.

    Raises:
        NotFoundError: the dataset is gone.
    """
    trained_on = repository.manifest(version).metadata.get("dataset", {})
    name = trained_on.get("name", config.data.name)
    number = trained_on.get("version")
    dataset = repository.version("dataset", name, number) if number else repository.latest("dataset", name)
    eval_file = repository.fetch(dataset) / "eval.parquet"
    cache = absolute(config.store, os.environ).tokenized()
    base, template = load_base_model(config.base), load_template(config.base)
    return compare(base, repository.fetch(version), eval_file, template, config.evaluation, cache)


if __name__ == "__main__":
    sys.exit(main())

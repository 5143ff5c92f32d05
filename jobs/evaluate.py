r"""Compares an adapter with its base, or with another adapter, on held-out chats.

python -m jobs.evaluate --config jobs/configs/tiny_lora_cpu.yaml --set evaluation.adapter=assistant@2
python -m jobs.evaluate --config jobs/configs/tiny_lora_cpu.yaml --set evaluation.against=assistant@1 \
        --fail-if "perplexity > 12" --fail-if "rouge_l < against" --promote production
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import absolute, repository_from
from llama_platform.artifacts.refs import BASE
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import job_config, job_parser
from llama_platform.cli.quiet import quiet_libraries
from llama_platform.errors import GateError, InputError
from llama_platform.evaluation.compare import (
    MEASURES,
    Comparison,
    evaluate,
    find_candidate,
)
from llama_platform.evaluation.conditions import parse_condition
from llama_platform.logs import setup_logging
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run.log import add_comparison
from llama_platform.training.run.records import read_status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        parser = job_parser(__doc__)
        parser.add_argument(
            "--fail-if",
            action="append",
            default=[],
            metavar="CONDITION",
            help="exit with 1 if it holds; may be repeated",
        )
        parser.add_argument("--promote", metavar="ALIAS", help="point this alias at the adapter if nothing failed")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write the comparison as JSON")
        arguments = parser.parse_args(argv)
        config = job_config(FinetuneConfig, arguments)
        conditions = [parse_condition(text) for text in arguments.fail_if]
        setup_logging()
        quiet_libraries()
        repository = repository_from(config.store, os.environ)
        version = find_candidate(repository, config.evaluation.adapter, config.adapter.name).version
        if arguments.promote and version is None:
            raise InputError(f"--promote: the {BASE} is no adapter")
        comparison = evaluate(repository, config, absolute(config.store, os.environ).tokenized())
        Console(highlight=False).print(table(comparison))
        print_samples(comparison)
        if (report := add_to_run_report(repository, version, comparison)) is not None:
            print(f"report of the run: {report}")
        if arguments.report:
            text = json.dumps(comparison.to_json(), indent=1, ensure_ascii=False)
            arguments.report.write_text(text + "\n", encoding="utf-8")
        failed = [condition.text for condition in conditions if condition.holds(comparison)]
        if failed:
            raise GateError(f"{comparison.candidate.label} failed: {'; '.join(failed)}")
        if arguments.promote and version is not None:
            document = Aliases(repository, "adapter", version.name).promote(arguments.promote, version.version)
            print(f"{version.name}@{arguments.promote} → version {version.version} (generation {document.generation})")

    return run_command(command)


def add_to_run_report(
    repository: ArtifactRepository, version: ArtifactVersion | None, comparison: Comparison
) -> str | None:
    """Put a comparison into the report of the run that made an adapter, and return its URI; None of other adapters."""
    facts = repository.manifest(version).metadata if version else {}
    run_id = facts.get("run_id")
    if run_id is None or not read_status(repository.store, run_id):
        return None
    add_comparison(repository.store, run_id, comparison.to_json(), facts["settings"])
    return f"{repository.store.root}/runs/{run_id}/report.html"


def table(comparison: Comparison) -> Table:
    """Return both candidates' measures side by side."""
    candidate, against = comparison.candidate, comparison.against
    title = f"{comparison.chats} held-out chats of {comparison.dataset}, {comparison.answer_tokens:,} answer tokens"
    shown = Table("", against.label, candidate.label, title=title, title_justify="left")
    for measure in MEASURES:
        if measure in candidate.measures:
            shown.add_row(measure, f"{against.measures[measure]:.4f}", f"{candidate.measures[measure]:.4f}")
    return shown


def print_samples(comparison: Comparison) -> None:
    """Print the sample answers."""
    console = Console(highlight=False)
    for sample in comparison.samples:
        console.print(f"\n[bold]{escape(sample.prompt)}[/bold]")
        for label in (comparison.against.label, comparison.candidate.label):
            console.print(f"  {label}: {escape(sample.answers[label])}")
        if sample.reference is not None:
            console.print(f"  held out: {escape(sample.reference)}")


if __name__ == "__main__":
    sys.exit(main())

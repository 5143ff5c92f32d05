"""Makes a dataset version of what users said of answers: corrections, answers that they liked, or preferences.

    python -m jobs.collect_feedback --config jobs/configs/tiny_lora_cpu.yaml --set kind=preferences

The chats go through the same checks as any others; the version's metadata tells which adapters gave the answers.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llama_platform.artifacts.location import repository_from
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import parse_job_args
from llama_platform.data.publish import publish_dataset, report_folder
from llama_platform.data.reading.sources import open_sources
from llama_platform.errors import InputError
from llama_platform.feedback.book import FeedbackBook
from llama_platform.feedback.chats import Kind, collect
from llama_platform.logs import setup_logging
from llama_platform.training.config import FinetuneConfig


class FeedbackCollection(FinetuneConfig):
    """What is collected, beside the settings of a run, of which `store`, `base` and `data` count here."""

    kind: Kind = "corrections"
    """`corrections`: chats with the answers that users wrote; `approved`: answers that they liked; `preferences`: a
    better and a worse answer each."""
    tenant: str | None = None
    """Whose conversations; None for all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(FeedbackCollection, __doc__ or "", argv)
        setup_logging()
        repository = repository_from(config.store, os.environ)
        found = collect(FeedbackBook(repository.store).entries(config.tenant), config.kind)
        if not found.records:
            raise InputError(f"feedback: there are no {config.kind}; `llama-platform feedback list` shows what is kept")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{config.kind}.jsonl")
            file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in found.records))
            origin = {"feedback": {"kind": config.kind, "answered_by": dict(found.answered_by)}}
            with open_sources((str(file),)) as files:
                version, report = publish_dataset(repository, config.data, config.base, files, origin=origin)
        answered = ", ".join(f"{name} {count}" for name, count in found.answered_by.items())
        print(f"{len(found.records)} records of {config.kind}, {report.chats.kept} kept; answered by {answered}")
        print(f"report: {report_folder(config.data) / 'report.html'}", file=sys.stderr)
        print(f"dataset {version.name}@{version.version}  {repository.uri(version)}")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())

"""Turns chats into a dataset version.

python -m jobs.prepare_data --config jobs/configs/tiny_lora_cpu.yaml --set 'data.sources=[chats.json]'
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from jobs.arguments import parse_job_args
from llama_platform.artifacts.location import repository_from
from llama_platform.cli.exit_codes import run_command
from llama_platform.data.dataset import publish_dataset
from llama_platform.logs import setup_logging
from llama_platform.training.config import FinetuneConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(FinetuneConfig, __doc__ or "", argv)
        setup_logging()
        repository = repository_from(config.store, os.environ)
        version, report = publish_dataset(repository, config.data, config.base)
        print(summary(report))
        print(f"dataset {version.name}@{version.version}  {repository.uri(version)}")

    return run_command(command)


def summary(report: dict[str, Any]) -> str:
    """Return the report's counts as lines to read, with the first places of what was left out."""
    chats, tokens = report["chats"], report["tokens"]
    lines = [
        f"{chats['kept']} chats: {chats['train']} to train on, {chats['eval']} held out",
        f"{tokens['train']['all']:,} training tokens, {tokens['train']['trained']:,} of them answers; "
        f"longest chat {tokens['train']['longest']}",
    ]
    others = {kind: count for kind, count in chats.items() if kind not in ("kept", "train", "eval")}
    lines += [f"{kind}: {count}" for kind, count in others.items()]
    lines += [f"  {p['where']}: {p['kind']}: {p['problem']}" for p in report["problems"][:5]]
    if len(report["problems"]) > 5:
        lines.append("  … more in the dataset's report.json")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

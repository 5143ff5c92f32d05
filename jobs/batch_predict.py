r"""Answers every record of JSON-lines files, with Ray Data over the same engine that serves.

    python -m jobs.batch_predict --config jobs/configs/batch_local.yaml \
        --set 'sources=[questions.jsonl]' --set output=answers

A record has `prompt` or `messages`, and may have `id`, `adapter` and the other fields of `POST /predict`. Answers are
JSON lines in `answers/shard-*.jsonl`, in the order of the records; one that cannot be answered has an `error` there.
Run again after whatever ended it, the job goes on where it was.
"""

import os
import sys
from collections.abc import Sequence

from rich.console import Console

from llama_platform.artifacts.location import absolute
from llama_platform.batch.plan import BatchConfig, BatchProgress, prepare
from llama_platform.batch.worker import answer_all
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import parse_job_args
from llama_platform.cli.ray_cluster import connect
from llama_platform.logs import setup_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(BatchConfig, __doc__, argv)
        config = config.model_copy(update={"store": absolute(config.store, os.environ)})
        setup_logging()
        console = Console(highlight=False)
        batch = prepare(config)
        if batch.pending:
            with connect():
                answer_all(config, batch, lambda progress: console.print(line(progress)))
        done = batch.progress
        console.print(f"{done.rows} records answered, {done.errors} of them with an error, in {config.output}")

    return run_command(command)


def line(progress: BatchProgress) -> str:
    """Return a line of progress."""
    kept = f", {progress.kept_shards} of them from before" if progress.kept_shards else ""
    return (
        f"shard {progress.shards}/{progress.all_shards}{kept}: {progress.rows} records, {progress.errors} errors, "
        f"{progress.tokens_per_s:,.0f} tokens/s"
    )


if __name__ == "__main__":
    sys.exit(main())

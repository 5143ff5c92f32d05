"""Builds an index of documents and commits it.

python -m jobs.build_index --config jobs/configs/index.yaml --set 'sources=[docs]'
"""

import os
import sys
from collections.abc import Sequence

from jobs.arguments import parse_job_args
from llama_platform.artifacts.location import repository_from
from llama_platform.cli.exit_codes import run_command
from llama_platform.logs import setup_logging
from rag.build import IndexConfig, build_index
from rag.documents import DocumentSet

SHOWN_FILES = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(IndexConfig, __doc__ or "", argv)
        setup_logging()
        from rag.embedding import SentenceTransformerEmbedder

        repository = repository_from(config.store, os.environ)
        version, found = build_index(repository, config, SentenceTransformerEmbedder(config.embedding), _print)
        print(summary(found))
        print(f"index {version.name}@{version.version}  {repository.uri(version)}")

    return run_command(command)


def summary(found: DocumentSet) -> str:
    """Return how many documents were read, and which files were not."""
    lines = [f"{len(found.documents)} documents, {len(found.skipped)} files skipped"]
    lines += [f"  skipped {item.id}: {item.reason}" for item in found.skipped[:SHOWN_FILES]]
    if len(found.skipped) > SHOWN_FILES:
        lines.append("  … the others are named in the index's manifest")
    return "\n".join(lines)


def _print(done: int, total: int) -> None:
    print(f"embedded {done}/{total} chunks", flush=True)


if __name__ == "__main__":
    sys.exit(main())

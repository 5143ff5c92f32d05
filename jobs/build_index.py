r"""Builds an index of documents and commits it, or brings one up to date.

python -m jobs.build_index --config jobs/configs/index.yaml --set 'sources=[docs]' --set promote=production
python -m jobs.build_index --set mode=update --set 'sources=[changed]' --set 'delete=[old.md, drafts/]'
"""

import os
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import absolute, repository_from
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import job_config, job_parser
from llama_platform.cli.ray_cluster import connect
from llama_platform.errors import ConfigError, InputError
from llama_platform.logs import setup_logging
from llama_platform.storage.lease import Lease
from rag.documents.sources import list_sources
from rag.indexing.build import IndexConfig, IndexReport, build_index
from rag.indexing.changes import discard_change, read_change
from rag.indexing.workers import RayWorkers

SHOWN_FILES = 20
MOST_QUEUED_S = 6 * 3600.0
"""How long a change waits at most for those before it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        parser = job_parser(__doc__)
        parser.add_argument("--change", help="id of a change that waits in the store, instead of sources")
        arguments = parser.parse_args(argv)
        config = job_config(IndexConfig, arguments)
        config = config.model_copy(update={"store": absolute(config.store, os.environ)})
        setup_logging()
        console = Console(highlight=False, markup=False, soft_wrap=True)
        repository = repository_from(config.store, os.environ)
        if arguments.change:
            version, report = do_change(repository, config, arguments.change, console.print)
        else:
            version, report = _build(repository, config, console.print)
        console.print(summary(report))
        console.print(f"index {version.name}@{version.version}  {repository.uri(version)}")
        if arguments.change:
            refuse_unread(version, report)

    return run_command(command)


def _build(
    repository: ArtifactRepository, config: IndexConfig, on_progress: Callable[[str], None]
) -> tuple[ArtifactVersion, IndexReport]:
    list_sources(config.sources)  # before Ray is started: most mistakes show here
    with connect():
        return index_and_promote(repository, config, on_progress)


def do_change(
    repository: ArtifactRepository, config: IndexConfig, change_id: str, on_progress: Callable[[str], None]
) -> tuple[ArtifactVersion, IndexReport]:
    """Do a change that waits in the store, after those of the same index that are being done.

    It stays in the store until it is in a committed version, or refused for its own content.

    Args:
        repository: whose store it waits in.
        config: the index, its store and its embedding model; sources and mode are the change's.
        change_id: what `store_change` returned.
        on_progress: called with lines for the user.

    Raises:
        InputError: its documents cannot be indexed.
        StorageError: the store failed meanwhile; the change still waits there.
        ConflictError: others were at work on the index for too long; the change still waits there.
    """
    lease = Lease(repository.store, f"changes/{config.name}.lease.json", f"index {config.name}", wait_s=MOST_QUEUED_S)
    with lease:
        try:
            done = _build(repository, of_change(repository, config, change_id), on_progress)
        except ConfigError:  # of the cluster, not of the change
            raise
        except InputError:
            discard_change(repository, config.name, change_id)
            raise
        discard_change(repository, config.name, change_id)
        return done


def of_change(repository: ArtifactRepository, config: IndexConfig, change_id: str) -> IndexConfig:
    """Return the configuration of doing a change that waits in the store."""
    change, sources = read_change(repository, config.name, change_id)
    wanted = {"sources": sources, "mode": "update", "delete": change.delete, "promote": change.promote}
    return config.model_copy(update=wanted)


def index_and_promote(
    repository: ArtifactRepository, config: IndexConfig, on_progress: Callable[[str], None]
) -> tuple[ArtifactVersion, IndexReport]:
    """Build the index on the connected cluster, and point the alias that the configuration names at it."""
    version, report = build_index(repository, config, RayWorkers(config, on_progress), on_progress)
    if config.promote is not None:
        # A slower job must not take back what a faster one has promoted since.
        moved = Aliases(repository, "index", version.name).advance(config.promote, version.version)
        outcome = f"→ version {version.version}" if moved else "stays at a newer version"
        on_progress(f"{version.name}@{config.promote} {outcome}")
    return version, report


def refuse_unread(version: ArtifactVersion, report: IndexReport) -> None:
    """Fail the job of an upload of which a file is not in the index, though the others are.

    Raises:
        InputError: naming the files and the reasons.
    """
    if report.skipped:
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in report.skipped[:SHOWN_FILES])
        raise InputError(
            f"{len(report.skipped)} of the uploaded documents are not in {version.name}@{version.version}, the others "
            f"are: {reasons}"
        )


def summary(report: IndexReport) -> str:
    """Return what the index holds, and what became of files that it does not."""
    lines = [
        f"{report.documents} documents, {report.chunks} chunks, {report.embedded} of them embedded now; "
        f"{report.deleted} documents left out, {len(report.skipped)} skipped"
    ]
    lines += [f"  skipped {item.id}: {item.reason}" for item in report.skipped[:SHOWN_FILES]]
    lines += [f"  {name}: {note}" for name, note in report.notes[:SHOWN_FILES]]
    uncovered = list(report.uncovered.items())[:SHOWN_FILES]
    lines += [f"  {name}: {share:.0%} of its words are in the index" for name, share in uncovered]
    if max(len(report.skipped), len(report.notes), len(report.uncovered)) > SHOWN_FILES:
        lines.append("  … more of them are named in the index's manifest")
    lines += [f"  to be deleted, but not there: {name}" for name in report.unknown]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

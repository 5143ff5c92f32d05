"""The folder that `ray job submit --working-dir` packs and sends to the cluster."""

import logging
from collections.abc import Iterator
from pathlib import Path

from llama_platform.preflight.findings import Finding

log = logging.getLogger(__name__)
MB = 1e6
MOST_MB = 500
"""Ray refuses a larger package."""
LARGE_MB = 20
SHOWN = 3


def check_working_directory(folder: Path) -> Iterator[Finding]:
    """Tell how much Ray would pack, without what `.rayignore` and `.gitignore` leave out, and the largest files."""
    if not folder.is_dir():
        yield Finding("error", "working directory", f"{folder}: is no folder")
        return
    sizes = sorted(_packed(folder), reverse=True)
    total = sum(size for size, _ in sizes) / MB
    largest = ", ".join(f"{path} ({size / MB:.1f} MB)" for size, path in sizes[:SHOWN])
    if total > MOST_MB:
        text = f"{total:,.0f} MB, and Ray refuses more than {MOST_MB}; leave out by .rayignore: {largest}"
        yield Finding("error", "working directory", text)
    elif total > LARGE_MB:
        text = f"{total:,.1f} MB go to the cluster with each job; the largest: {largest}"
        yield Finding("warning", "working directory", text)
    else:
        yield Finding("ok", "working directory", f"{total:,.1f} MB in {len(sizes)} files")


def _packed(folder: Path) -> Iterator[tuple[int, str]]:
    # Ray's own reading of the two files; there is no public one.
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    left_out = get_excludes_from_ignore_files(folder, include_gitignore=True, logger=log)
    waiting = [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            if any(exclude(path) for exclude in left_out):
                continue
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
            elif path.is_file():
                yield path.stat().st_size, str(path.relative_to(folder))

"""What MkDocs does besides: the reference's pages, and links that lead out of the manual."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REFERENCE = Path(__file__).parents[2] / ".cache/docs/reference"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that were written from the code."""
    for page in sorted(REFERENCE.glob("*.md")):
        files.append(File.generated(config, f"reference/{page.name}", abs_src_path=str(page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository that are no page of the manual; elsewhere they are links."""

    def shown(link: re.Match[str]) -> str:
        target = (
            Path(page.file.abs_src_path).parent / link.group(0).partition("](")[2][:-1].partition("#")[0]
        ).resolve()
        inside = target.suffix == ".md" and Path(page.file.abs_src_path).parents[0] in target.parents
        docs = Path(__file__).parents[1]
        return link.group(0) if inside or docs in target.parents else f"{link.group(1)} (`{link.group(2)}`)"

    return _OUTSIDE.sub(shown, markdown)

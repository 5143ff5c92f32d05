"""Makes the tiny base again: tokenizer and weights, in about 40 minutes on two cores.

    python -m jobs.shipped.tiny_base --out platform/llama_platform/models/tiny/weights

It reads the project's documents, the reference that comes with the Python interpreter, and the composed base text.
"""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llama_platform.cli.exit_codes import run_command
from llama_platform.models.tiny.build import TinyLlamaSpec, build_tiny_llama
from rag.documents.chunking import split_document
from rag.documents.formats import ReadingConfig, read_file
from rag.documents.sources import list_sources, local_copy

PASSAGE_WORDS = 140


def main(argv: list[str] | None = None) -> int:
    """Parse arguments, train and write the folder; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--documents", nargs="+", default=["docs", "README.md"], help="files and folders to read")
    parser.add_argument("--steps", type=int, default=TinyLlamaSpec().steps, help="optimizer steps")
    arguments = parser.parse_args(argv)
    return run_command(lambda: build(arguments.out, arguments.documents, arguments.steps))


def build(folder: Path, sources: list[str], steps: int) -> None:
    """Train the tiny base on `sources` and write it to `folder`, with a line of progress."""
    passages = [*read_documents(sources), *read_python_reference()]
    origin = {
        "passages_sha256": hashlib.sha256(repr(passages).encode()).hexdigest(),
        "python": sys.version.split()[0],
    }
    spec = TinyLlamaSpec(steps=steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("tiny base", total=steps)

        def on_step(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"tiny base, loss {loss:.3f}")
            if step % 50 == 0 and not progress.console.is_terminal:
                print(f"{time.strftime('%H:%M:%S')} step {step}/{steps} loss {loss:.3f}", flush=True)

        build_tiny_llama(folder, passages, spec, origin, on_step)


def read_documents(sources: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of the chunks of documents."""
    for file in list_sources(sources):
        with local_copy(file) as path:
            document = read_file(path, file.id, ReadingConfig())
        for chunk in split_document(document, PASSAGE_WORDS, 0, _words):
            yield chunk.place(), chunk.text


def read_python_reference() -> Iterator[tuple[str, str]]:
    """Yield (topic, text) of the language reference inside the interpreter: real prose of some size."""
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        for paragraph in paragraphs:
            if 60 < len(paragraph) < 1200:
                yield topic.capitalize(), paragraph


def _words(text: str) -> list[int]:
    """Return where each word begins."""
    return [word.start() for word in re.finditer(r"\S+", text)]


if __name__ == "__main__":
    sys.exit(main())

"""Documents: Markdown and text files, read from files and folders."""

import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_platform.errors import InputError

MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdx"})
TEXT_SUFFIXES = frozenset({".txt", ".text", ".rst"})
MAX_DOCUMENT_BYTES = 20 * 1024 * 1024
# Folders that hold tools' files, never documents.
SKIPPED_FOLDERS = frozenset({".git", ".venv", "node_modules", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Document:
    """One readable file."""

    id: str
    """Path relative to the source folder, `/`-separated."""
    text: str
    markdown: bool
    sha256: str
    """Of the file's bytes."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is no document, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DocumentSet:
    """What was found below the sources, ordered by id."""

    documents: list[Document]
    skipped: list[SkippedFile]


def load_documents(sources: Sequence[str]) -> DocumentSet:
    """Read all Markdown and text files of files and folders.

    Raises:
        InputError: a source does not exist, two files have the same id, or nothing could be read.
    """
    documents: dict[str, Document] = {}
    skipped: list[SkippedFile] = []
    for path, name in _files(sources):
        found = read_document(path, name)
        if isinstance(found, SkippedFile):
            skipped.append(found)
        elif name in documents:
            raise InputError(f"{path}: a document '{name}' was already read from another source; rename one")
        else:
            documents[name] = found
    if not documents:
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in skipped[:3]) or "no files"
        raise InputError(f"no documents in {', '.join(sources)} ({reasons})")
    return DocumentSet([documents[name] for name in sorted(documents)], skipped)


def read_document(path: Path, name: str) -> Document | SkippedFile:
    """Read one file, or say why it is no document."""
    suffix = path.suffix.lower()
    if suffix not in MARKDOWN_SUFFIXES | TEXT_SUFFIXES:
        return SkippedFile(name, f"'{suffix or 'no'}' suffix is not Markdown or text")
    try:
        size = path.stat().st_size
        if size > MAX_DOCUMENT_BYTES:
            return SkippedFile(name, f"{size} bytes, over the limit of {MAX_DOCUMENT_BYTES}")
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return SkippedFile(name, f"not UTF-8 text (byte {error.start})")
    except OSError as error:
        return SkippedFile(name, f"cannot be read: {error.strerror}")
    if "\x00" in text:
        return SkippedFile(name, "not text: holds NUL bytes")
    if not text.strip():
        return SkippedFile(name, "empty")
    return Document(name, clean_text(text), suffix in MARKDOWN_SUFFIXES, hashlib.sha256(content).hexdigest())


def clean_text(text: str) -> str:
    """Replace control and invisible format characters by spaces, one for one, so that spans stay true."""
    return "".join(
        " " if unicodedata.category(char) in ("Cc", "Cf", "Co") and char not in "\n\t" else char for char in text
    )


def _files(sources: Sequence[str]) -> Iterator[tuple[Path, str]]:
    for source in sources:
        root = Path(source)
        if root.is_file():
            yield root, root.name
        elif root.is_dir():
            for folder, folders, names in os.walk(root):
                folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
                for name in sorted(names):
                    path = Path(folder) / name
                    yield path, path.relative_to(root).as_posix()
        else:
            raise InputError(f"{source}: no such file or folder")

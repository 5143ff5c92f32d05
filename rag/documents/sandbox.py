"""GuardedReader: reads and cuts files in a process of its own.

A parser that crashes, hangs or eats memory takes that process with it, and only this one file is skipped.
"""

import json
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from llama_platform.errors import InputError
from rag.documents.chunking import Chunk, ChunkingConfig, coverage, split_document
from rag.documents.document import Document, Skipped
from rag.documents.formats import ReadingConfig, read_file
from rag.embedding import token_counter


@dataclass(frozen=True, slots=True)
class CutDocument:
    """A document, cut into chunks."""

    document: Document
    """Without its text, which the chunks hold."""
    chunks: tuple[Chunk, ...]
    coverage: float
    """Share of its words that the chunks hold, from 0 to 1."""


MOST_UNREAD = 0.2
"""Share of a text without tokens from which on it is said."""
Cutter = Callable[[Document], CutDocument]


class GuardedReader:
    """Reads one file at a time; close it at the end."""

    def __init__(self, limits: ReadingConfig, chunking: ChunkingConfig, tokenizer: str) -> None:
        """Prepare a process; it starts with the first file.

        Args:
            limits: bounds on what is read.
            chunking: sizes of chunks.
            tokenizer: tokenizer of the embedding model, as the content of its `tokenizer.json`.
        """
        self._limits = limits
        # Neither fork, after which threads' locks stay locked, nor spawn, which begins anew for each process.
        context = multiprocessing.get_context("forkserver")
        self._pool = ProcessPool(
            max_workers=1, context=context, initializer=_prepare, initargs=(limits, chunking, tokenizer)
        )

    def read(self, path: Path, name: str) -> CutDocument | Skipped:
        """Read and cut one file, or say why it is no document."""
        future = self._pool.schedule(_read, args=(path, name), timeout=self._limits.timeout_s)
        try:
            found: CutDocument | Skipped = future.result()
        except FutureTimeoutError:
            return Skipped(name, f"not read within {self._limits.timeout_s:g} s")
        except ProcessExpired as error:
            return Skipped(name, f"the parser crashed on it (exit code {error.exitcode})")
        except MemoryError:
            return Skipped(name, f"needs more than {self._limits.memory_bytes} bytes of memory to be read")
        except Exception as error:  # parsers of other people's formats raise what they like
            return Skipped(name, f"cannot be parsed: {type(error).__name__}: {str(error)[:200]}")
        return found

    def close(self) -> None:
        """End the process."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


class _State:
    limits: ReadingConfig
    cut: Cutter


def make_cutter(chunking: ChunkingConfig, tokenizer: str) -> Cutter:
    """Return a function that cuts documents by the tokens of a tokenizer, given as the content of its file."""
    counter = token_counter(tokenizer)
    unknown = counter.token_to_id(json.loads(tokenizer)["model"].get("unk_token") or "")

    def read(text: str) -> tuple[list[int], float]:
        """Return where each token begins, and which share of the characters in tokens the model cannot read."""
        encoded = counter.encode(text, add_special_tokens=False)
        starts: list[int] = []
        unread = whole = 0
        for number, (start, end) in zip(encoded.ids, encoded.offsets, strict=True):
            whole += end - start
            unread += (end - start) * (number == unknown)
            starts += range(start, max(end, start + 1)) if number == unknown else [start]
        return starts, unread / max(1, whole)

    def cut(document: Document) -> CutDocument:
        starts, share = read(document.text)

        def tokens(text: str) -> list[int]:
            return starts if text is document.text else read(text)[0]

        chunks = tuple(split_document(document, chunking.chunk_tokens, chunking.overlap_tokens, tokens))
        notes = document.notes
        if share > MOST_UNREAD:
            notes += (
                f"the embedding model has no tokens for {share:.0%} of it: that is found by its words only; set "
                "embedding.model to a multilingual model",
            )
        bare = Document(document.id, "", document.sha256, document.facts, (), notes)
        return CutDocument(bare, chunks, coverage(document, chunks))

    return cut


def _prepare(limits: ReadingConfig, chunking: ChunkingConfig, tokenizer: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    _State.limits, _State.cut = limits, staticmethod(make_cutter(chunking, tokenizer))


def _read(path: Path, name: str) -> CutDocument | Skipped:
    try:
        found = _State.cut(read_file(path, name, _State.limits))
    except InputError as error:
        return Skipped(name, str(error))
    return found if found.chunks else Skipped(name, "no text in it")

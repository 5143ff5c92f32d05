"""Reader: from a source file to cut documents, whatever its format."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from llama_platform.errors import InputError, NotFoundError, StorageError
from rag.documents.chunking import ChunkingConfig
from rag.documents.document import Skipped, check_document_id
from rag.documents.formats import READERS, ReadingConfig, unsupported
from rag.documents.rows import ROW_SUFFIXES, read_rows
from rag.documents.sandbox import CutDocument, GuardedReader, make_cutter
from rag.documents.sources import SourceFile, local_copy


def is_readable(name: str) -> bool:
    """Return whether a file of this name has a format that is read."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in READERS or suffix in ROW_SUFFIXES


class Reader:
    """Reads files one after the other."""

    def __init__(self, limits: ReadingConfig, chunking: ChunkingConfig, tokenizer: str) -> None:
        """Prepare; see GuardedReader for the arguments."""
        self._limits = limits
        self._guarded = GuardedReader(limits, chunking, tokenizer)
        self._cut = make_cutter(chunking, tokenizer)

    def read(self, file: SourceFile) -> Iterator[CutDocument | Skipped]:
        """Yield the documents of a file, and what of it is none."""
        try:
            check_document_id(file.id)
            suffix = PurePosixPath(file.key).suffix.lower()
            if not is_readable(file.key):
                raise unsupported(suffix, {*READERS, *ROW_SUFFIXES})
            limit = self._limits.max_table_bytes if suffix in ROW_SUFFIXES else self._limits.max_bytes
            with local_copy(file, limit) as path:
                if suffix not in ROW_SUFFIXES:
                    yield self._guarded.read(path, file.id)
                    return
                for row in read_rows(path, file.id, self._limits):
                    cut = row if isinstance(row, Skipped) else self._cut(row)
                    if isinstance(cut, CutDocument) and not cut.chunks:
                        cut = Skipped(cut.document.id, "no text in it")
                    yield cut
        except (InputError, PermissionError) as error:
            yield Skipped(file.id, str(error))
        except (NotFoundError, StorageError, OSError) as error:  # not the document's fault: it must not be missing
            yield Skipped(file.id, str(error), fatal=True)

    def close(self) -> None:
        """End what was started."""
        self._guarded.close()

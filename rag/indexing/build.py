"""Building an index: from sources to a committed snapshot, anew or on top of the version before."""

import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field

from llama_platform.artifacts.location import StoreConfig
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.config import Config
from llama_platform.errors import ConfigError, ConflictError, InputError, IntegrityError, StorageError
from rag.dense_index import IndexingConfig, Stored
from rag.documents.chunking import Chunk, ChunkingConfig
from rag.documents.document import Skipped
from rag.documents.formats import ReadingConfig
from rag.documents.sandbox import CutDocument
from rag.documents.sources import SourceFile, list_sources
from rag.embedding import Vectors
from rag.embedding_model import EmbeddingConfig, EmbeddingModel
from rag.indexed_documents import IndexedDocument
from rag.indexing.base_version import Previous, base_number, read_previous
from rag.snapshot import make_snapshot, write_snapshot

MOST_REPORTED = 200
TRIES = 5
WELL_COVERED = 0.98
"""Share of a document's words that are in chunks, as a rule."""
SERVED_ALIAS = "production"
"""Whose rollbacks count where an update promotes nothing."""


class IndexConfig(Config):
    """Which documents become an index, and how."""

    store: StoreConfig = StoreConfig()
    """Where artifacts are, and this node's cache of them."""
    name: str = "docs"
    """Name of the index artifact."""
    sources: tuple[str, ...] = ()
    """Files, folders, and `s3://` objects or prefixes."""
    mode: Literal["build", "update"] = "build"
    """`build`: the index is of these sources. `update`: it is of an earlier version's documents, if there is one, with
    those of these sources added, or put in the place of those of the same file, and those of `delete` left out; it is
    read, cut and searched as that version is."""
    base: Literal["live", "newest"] = "live"
    """Version that an update goes on from: with `live` the newest one, but none that the alias was rolled back from."""
    delete: tuple[str, ...] = ()
    """Files that an update leaves out, with all their rows, or single rows; one that ends with `/` or `#` means all
    that begin so."""
    promote: str | None = None
    """An alias to be pointed at the new version."""
    chunking: ChunkingConfig = ChunkingConfig()
    """How documents are cut."""
    embedding: EmbeddingConfig = EmbeddingConfig()
    """The model that embeds texts for the search."""
    indexing: IndexingConfig = IndexingConfig()
    """Kind of the FAISS index, and how wide it searches."""
    reading: ReadingConfig = ReadingConfig()
    """Bounds on what is read of a file."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that read and embed; each has `num_cpus` and `num_gpus`."""
    num_cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray reserves for each worker."""
    num_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for each worker; a fraction shares one."""


class Workers(Protocol):
    """Who reads and embeds."""

    def read(self, files: Sequence[SourceFile]) -> Iterator[CutDocument | Skipped]:
        """Yield the documents of files, in any order, and what of them is none."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [len(texts), dimensions], every row of length 1."""
        ...


@dataclass(slots=True)
class IndexReport:
    """What became of the sources."""

    documents: int = 0
    """In the index."""
    chunks: int = 0
    read: int = 0
    """Documents of the sources."""
    embedded: int = 0
    """Chunks whose vectors the version before did not have."""
    deleted: int = 0
    """Documents that were left out."""
    unknown: list[str] = field(default_factory=list)
    """Ids to be deleted that no document has."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Documents, and what of them was not understood or is not there."""
    uncovered: dict[str, float] = field(default_factory=dict)
    """Documents of whose words less than `WELL_COVERED` are in chunks, and that share."""
    coverage: float = 1.0
    """Mean share of the words of what was read that are in a chunk."""


def build_index(
    repository: ArtifactRepository, config: IndexConfig, workers: Workers, on_progress: Callable[[str], None]
) -> tuple[ArtifactVersion, IndexReport]:
    """Index the configured documents and commit the snapshot; return its version and a report.

    Chunks that the version before holds keep their vectors. If somebody else commits a version meanwhile, the work is
    done again on top of that one, so that no change is lost.

    Args:
        repository: where it is committed.
        config: sources and settings.
        workers: who reads and embeds, by the model of `config.embedding`.
        on_progress: called with lines for the user.

    Raises:
        InputError: there are no readable documents.
        ConfigError: chunks would be longer than the embedding model reads, or the model is not the one of the index.
        ConflictError: others kept committing versions of the index.
        StorageError: a source could not be read right now, or the store refuses.
    """
    model = EmbeddingModel(config.embedding.model)
    config = _settled(repository, config, model)
    files = list_sources(config.sources)
    report = IndexReport()
    found = _read(workers, files, report, on_progress)
    for _ in range(TRIES):
        previous = _previous(repository, config, model, on_progress)
        try:
            version = _commit(repository, config, workers, model, previous, found, report, on_progress)
        except ConflictError:
            on_progress("another version was committed meanwhile; starting again from that")
        else:
            return version, report
    raise ConflictError(f"index '{config.name}': {TRIES} times in a row somebody else committed a version first")


def _previous(
    repository: ArtifactRepository, config: IndexConfig, model: EmbeddingModel, on_progress: Callable[[str], None]
) -> Previous:
    number = None
    if config.mode == "update" and config.base == "live":
        number = base_number(repository, config.name, config.promote or SERVED_ALIAS) or None
    try:
        previous = read_previous(repository, config.name, model.fingerprint, number)
        if previous.taken < previous.number:
            on_progress(
                f"goes on from version {previous.taken}, to which the alias was rolled back; "
                f"base=newest takes version {previous.number}"
            )
        return previous
    except IntegrityError as error:
        if config.mode == "update":
            raise
        newest = repository.versions("index", config.name)[-1]
        on_progress(f"nothing is taken over from version {newest}, which cannot be read: {error}")
        return Previous(newest)


def _commit(
    repository: ArtifactRepository,
    config: IndexConfig,
    workers: Workers,
    model: EmbeddingModel,
    previous: Previous,
    found: Sequence[CutDocument],
    report: IndexReport,
    on_progress: Callable[[str], None],
) -> ArtifactVersion:
    gone = _gone(previous, config, {item.document.id for item in found}, report)
    chunks = [chunk for chunk in previous.chunks if chunk.document not in gone]
    chunks += [chunk for item in found for chunk in item.chunks]
    chunks.sort(key=lambda chunk: (chunk.document, chunk.start, chunk.end))
    if not chunks and not _emptied(previous, config, report):
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in report.skipped[:3]) or "no files"
        raise InputError(f"no documents in {', '.join(config.sources) or 'the index'} ({reasons})")
    documents = [document for document in previous.documents if document.id not in gone]
    documents = sorted([*documents, *map(_indexed, found)], key=lambda document: document.id)
    vectors, report.embedded = _vectors(previous, chunks, workers, on_progress)
    report.documents, report.chunks = len(documents), len(chunks)
    snapshot = make_snapshot(chunks, vectors, (model.name, model.fingerprint), config.indexing)
    with tempfile.TemporaryDirectory() as scratch:
        write_snapshot(snapshot, documents, Path(scratch))
        lineage = _lineage(config, model, vectors.shape[1], report)
        return repository.publish("index", config.name, Path(scratch), lineage, after=previous.number)


def _emptied(previous: Previous, config: IndexConfig, report: IndexReport) -> bool:
    """Tell whether an index is empty on purpose: all its documents were to be left out."""
    return config.mode == "update" and bool(config.delete) and bool(previous.documents) and not report.skipped


def _settled(repository: ArtifactRepository, config: IndexConfig, model: EmbeddingModel) -> IndexConfig:
    """Return the configuration, of an update with the settings of the version that it is on top of."""
    if config.mode == "update" and repository.versions("index", config.name):
        latest = repository.latest("index", config.name)
        known = repository.manifest(latest).metadata
        if "embedding" not in known:
            raise ConfigError(f"{config.name}@{latest.version} is of another release: build it again with mode=build")
        if known["embedding"]["fingerprint"] != model.fingerprint:
            raise ConfigError(
                f"embedding.model: '{model.name}', but {config.name}@{latest.version} was made with "
                f"'{known['embedding']['model']}': build it again, or set embedding.model to that"
            )
        settings = {
            "chunking": ChunkingConfig.model_validate(known["chunking"]),
            "indexing": IndexingConfig.model_validate(known["indexing"]),
            "reading": ReadingConfig.model_validate(known["reading"]),
        }
        config = config.model_copy(update=settings)
    elif config.delete and config.mode == "build":
        raise ConfigError("delete: is for updates; set mode=update")
    if config.chunking.chunk_tokens > model.max_tokens:
        raise ConfigError(
            f"chunking.chunk_tokens: {config.chunking.chunk_tokens} is more than the {model.max_tokens} tokens that "
            f"'{model.name}' reads; set it to at most that"
        )
    return config


def _read(
    workers: Workers, files: Sequence[SourceFile], report: IndexReport, on_progress: Callable[[str], None]
) -> list[CutDocument]:
    found: dict[str, CutDocument] = {}
    for item in workers.read(files):
        if isinstance(item, Skipped):
            if item.fatal:
                raise StorageError(f"{item.id}: {item.reason}; nothing was changed, run it again")
            report.skipped.append(item)
        elif (document := item.document).id in found:
            report.skipped.append(Skipped(document.id, "another document has this id"))
        else:
            found[document.id] = item
    report.read = len(found)
    for item in found.values():
        report.notes += [(item.document.id, note) for note in item.document.notes]
        if item.coverage < WELL_COVERED:
            report.uncovered[item.document.id] = round(item.coverage, 4)
    report.coverage = sum(item.coverage for item in found.values()) / max(1, len(found))
    report.skipped.sort(key=lambda item: item.id)
    on_progress(f"read {len(found)} documents from {len(files)} files")
    if files and not found:
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in report.skipped[:3])
        raise InputError(f"none of {len(files)} files could be indexed ({reasons})")
    return list(found.values())


def _gone(previous: Previous, config: IndexConfig, replaced: set[str], report: IndexReport) -> set[str]:
    """Return the ids of documents of the version before that the next one does not take over."""
    known = {document.id for document in previous.documents}
    wanted = [unicodedata.normalize("NFC", item) for item in config.delete]
    matches = {item: {name for name in known if _is_of(name, item)} for item in wanted}
    deleted = set().union(*matches.values()) if matches else set()
    report.unknown = sorted(item for item, found in matches.items() if not found)
    # Rows that a table does not have any more go with it.
    files = {name.partition("#")[0] for name in replaced}
    replaced = replaced | {name for name in known if name.partition("#")[0] in files}
    if config.mode == "build":
        deleted = known
    report.deleted = len(deleted - replaced)
    return deleted | replaced


def _is_of(name: str, item: str) -> bool:
    """Tell whether a document is what a text names: itself, a row of its file, or what begins so."""
    return name == item or name.startswith((f"{item}#",) if not item.endswith(("/", "#")) else (item,))


def _vectors(
    previous: Previous, chunks: Sequence[Chunk], workers: Workers, on_progress: Callable[[str], None]
) -> tuple[Stored, int]:
    rows = previous.known(chunks)
    missing = [place for place, row in enumerate(rows) if row < 0]
    on_progress(f"{len(chunks)} chunks, {len(missing)} of them to be embedded")
    fresh = workers.embed([chunks[place].embedded_text() for place in missing]) if missing else None
    width = fresh.shape[1] if fresh is not None else previous.vectors.shape[1] if previous.vectors is not None else 1
    vectors = np.empty((len(chunks), width), dtype=np.float16)
    if fresh is not None:
        vectors[missing] = fresh.astype(np.float16)
    previous.fill(vectors, rows)
    return vectors, len(missing)


def _indexed(found: CutDocument) -> IndexedDocument:
    document, facts = found.document, found.document.facts
    return IndexedDocument(
        document.id, found.chunks[0].title, document.sha256, len(found.chunks), facts.tags, facts.date
    )


def _lineage(config: IndexConfig, model: EmbeddingModel, dimensions: int, report: IndexReport) -> dict[str, Any]:
    return {
        "documents": report.documents,
        "chunks": report.chunks,
        "skipped": {item.id: item.reason for item in report.skipped[:MOST_REPORTED]},
        "skipped_count": len(report.skipped),
        "notes": [list(note) for note in sorted(report.notes)[:MOST_REPORTED]],
        "coverage": {
            "mean": round(report.coverage, 4),
            "below": dict(sorted(report.uncovered.items(), key=lambda pair: pair[1])[:MOST_REPORTED]),
        },
        "embedding": {"model": model.name, "fingerprint": model.fingerprint, "dimensions": dimensions},
        "chunking": config.chunking.model_dump(mode="json"),
        "indexing": config.indexing.model_dump(mode="json"),
        "reading": config.reading.model_dump(mode="json"),
    }

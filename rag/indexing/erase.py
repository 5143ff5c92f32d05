"""Erasing a document from an index: every version that holds it is deleted, and the audit trail says so."""

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.audit.acts import acted
from llama_platform.errors import ConflictError, InputError, NotFoundError
from rag.indexed_documents import DOCUMENTS_FILE, read_documents


def versions_with(repository: ArtifactRepository, index: str, document: str) -> list[ArtifactVersion]:
    """Return the versions of an index that hold a document, ascending.

    Raises:
        IntegrityError: the list of documents of a version is damaged: nothing is known of what it holds.
    """
    versions = [repository.version("index", index, number) for number in repository.versions("index", index)]
    return [
        version
        for version in versions
        if any(held.id == document for held in read_documents(repository.fetch_file(version, DOCUMENTS_FILE)))
    ]


def erase_document(repository: ArtifactRepository, index: str, document: str, reason: str) -> list[ArtifactVersion]:
    """Delete every version of an index that holds a document, and return them.

    A version that an alias points at is not deleted: build one without the document first. What an alias's history
    names is, so that a rollback cannot bring the document back.

    Args:
        repository: holds the index.
        index: name of the index.
        document: id of the document.
        reason: why it has to go, for the audit trail.

    Raises:
        NotFoundError: no version holds it.
        InputError: the newest version holds it, or an alias points at one that does.
        ConflictError: an alias has come to point at one meanwhile; the others are gone.
        IntegrityError: a version is damaged.
    """
    holding = versions_with(repository, index, document)
    if not holding:
        raise NotFoundError(f"no version of index '{index}' holds a document {document!r}")
    if holding[-1].version == repository.latest("index", index).version:
        raise InputError(
            f"version {holding[-1].version}, the newest of index '{index}', holds {document!r}: build one without it "
            f"first: python -m jobs.build_index --set name={index} --set mode=update --set 'delete=[{document}]' "
            "--set promote=production"
        )
    numbers = {version.version for version in holding}
    pointing = {alias for alias, found in _pointed(repository, index).items() if found & numbers}
    if pointing:
        raise InputError(
            f"index '{index}': {', '.join(sorted(pointing))} points at a version that holds {document!r}: promote a "
            "version without it first"
        )
    staying = [version.version for version in holding if not _delete(repository, version)]
    facts = {"index": index, "document": document, "versions": sorted(numbers - set(staying)), "reason": reason}
    acted(repository.store, "document.erase", **facts)
    if staying:
        raise ConflictError(
            f"index '{index}': an alias has come to point at version {staying[0]}, which holds {document!r}: it stays; "
            "promote another and run this again"
        )
    return holding


def _pointed(repository: ArtifactRepository, index: str) -> dict[str, set[int]]:
    document = Aliases(repository, "index", index).read()
    return {alias: {target.version for target in targets} for alias, targets in document.aliases.items()}


def _delete(repository: ArtifactRepository, version: ArtifactVersion) -> bool:
    def pointed() -> bool:
        return any(version.version in found for found in _pointed(repository, version.name).values())

    return repository.delete(version, pointed)

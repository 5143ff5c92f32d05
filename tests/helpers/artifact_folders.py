"""Folders of artifacts for tests."""

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.models.adapter_transfer import import_adapter


def fetched_folder(repository, version):
    """Return the folder of a fetched version, for tests whose cache never evicts it."""
    with repository.fetched(version) as folder:
        return folder


def import_versions(repository, adapter_folder, parent, count):
    """Import the adapter as versions 1 to `count` of `support`, each with a note of its own."""
    for n in range(1, count + 1):
        folder = parent / f"adapter{n}"
        folder.mkdir()
        for path in adapter_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "note.txt").write_text(str(n))
        import_adapter(repository, "support", str(folder), "plain")


def repository_of_versions(folder, adapter_folder, count):
    """Return a repository with versions 1 to `count` of `support`, in `store` below a folder."""
    repository = repository_from(StoreConfig(uri=(folder / "store").as_uri(), cache=folder / "cache"), {})
    import_versions(repository, adapter_folder, folder, count)
    return repository

from document_lists import publish_documents
from jobs.erase_document import main
from llama_platform.artifacts.location import StoreConfig, repository_from


def test_a_document_is_erased_once(tmp_path, capsys):
    repository = repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})
    publish_documents(repository, tmp_path / "index", "contract", "a")
    publish_documents(repository, tmp_path / "index", "a")
    store = ["--set", f"store.uri={repository.store.root}", "--set", f"store.cache={tmp_path / 'cache'}"]
    assert main(["contract", "--reason", "a person asked", *store]) == 0
    assert "deleted versions 1 of index docs" in capsys.readouterr().out
    assert main(["contract", "--reason", "a person asked", *store]) == 2
    assert "no version of index 'docs' holds a document 'contract'" in capsys.readouterr().err

import pytest

from document_lists import publish_documents
from llama_platform.artifacts.aliases import Aliases
from llama_platform.audit.trail import read_trail
from llama_platform.errors import ConflictError, InputError, NotFoundError
from rag.indexing import erase
from rag.indexing.erase import erase_document, versions_with


@pytest.fixture
def publish(repository, tmp_path):
    return lambda *names: publish_documents(repository, tmp_path / "index", *names)


@pytest.fixture
def history(publish, repository):
    """Versions 1, 2 and 4 hold the contract; production has moved from 2 to the newest, which does not."""
    for ids in (("contract", "a"), ("contract", "b"), ("a",), ("contract",), ("b",)):
        publish(*ids)
    aliases = Aliases(repository, "index", "docs")
    aliases.promote("production", 2)
    aliases.promote("production", 5)
    return aliases


def audit_lines(repository):
    return [record for record in read_trail(repository.store) if record["kind"] == "act"]


def test_every_version_that_holds_it_goes_and_a_line_says_so(history, repository):
    erased = erase_document(repository, "docs", "contract", "request of 3 May")
    assert [version.version for version in erased] == [1, 2, 4]
    assert repository.versions("index", "docs") == [3, 5]
    assert versions_with(repository, "docs", "contract") == []
    (line,) = audit_lines(repository)
    assert (line["what"], line["index"], line["document"]) == ("document.erase", "docs", "contract")
    assert (line["versions"], line["reason"]) == ([1, 2, 4], "request of 3 May")
    with pytest.raises(NotFoundError, match="no version 2"):
        history.rollback("production")


def test_what_is_served_is_not_deleted(history, publish, repository):
    publish("contract", "new")
    with pytest.raises(InputError, match=r"the newest of index 'docs', holds 'contract': build one without it"):
        erase_document(repository, "docs", "contract", "why")
    publish("c")
    history.split("production", {5: 1, 4: 1})
    with pytest.raises(InputError, match="production points at a version that holds 'contract'"):
        erase_document(repository, "docs", "contract", "why")
    assert versions_with(repository, "docs", "contract") != []
    assert audit_lines(repository) == []


def test_a_document_that_is_not_there_is_named(history, repository):
    with pytest.raises(NotFoundError, match="no version of index 'docs' holds a document 'contrat'"):
        erase_document(repository, "docs", "contrat", "why")


def test_a_version_that_is_promoted_meanwhile_stays_and_is_told(history, repository, monkeypatch):
    found = erase.versions_with(repository, "docs", "contract")

    def and_then_somebody_promotes(*_):
        return found

    monkeypatch.setattr(erase, "versions_with", and_then_somebody_promotes)
    looked = []

    def pointed(*arguments):
        looked.append(arguments)
        return {"production": {5}} if len(looked) == 1 else {"production": {2}}

    monkeypatch.setattr(erase, "_pointed", pointed)
    with pytest.raises(ConflictError, match="come to point at version 2"):
        erase_document(repository, "docs", "contract", "why")
    assert repository.versions("index", "docs") == [2, 3, 5]
    assert audit_lines(repository)[0]["versions"] == [1, 4]

import pytest

from rag.documents.blocks import markdown_blocks
from rag.documents.chunking import ChunkingConfig
from rag.documents.document import Document
from rag.documents.sandbox import make_cutter
from rag.embedding_model import OFFLINE_MODEL, EmbeddingModel
from rag.search.filters import Filters
from rag.search.inline import search_inline
from rag.search.query import Query


@pytest.fixture
def search(embedder):
    cut = make_cutter(ChunkingConfig(), EmbeddingModel(OFFLINE_MODEL).tokenizer)

    def search(question, *texts, **fields):
        documents = [
            Document(f"{number}.md", text, "", blocks=tuple(markdown_blocks(text))) for number, text in enumerate(texts)
        ]
        vector = embedder.embed([question])[0]
        return search_inline(Query(question, **fields), vector, documents, cut, embedder).hits

    return search


def test_the_best_of_what_came_along_is_found(search):
    assert search("green tea", "# Coffee\n\nBlack coffee.", "# Tea\n\nGreen tea.", k=1)[0].chunk.document == "1.md"


def test_filters_are_not_for_them(search):
    assert len(search("green tea", "Green tea.", filters=Filters(tag="none"))) == 1


def test_a_heading_alone_is_found(search):
    assert search("green tea", "# Green tea")[0].chunk.text == "# Green tea"


def test_of_nothing_nothing_is_found(search):
    assert search("green tea", "---") == []

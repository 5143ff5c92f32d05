"""The application with a small index of documents about tea."""

import pytest


@pytest.fixture
def rag(make_rag):
    return make_rag()

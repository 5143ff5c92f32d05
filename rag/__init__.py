"""Retrieval: from documents to the chunks that answer a question."""

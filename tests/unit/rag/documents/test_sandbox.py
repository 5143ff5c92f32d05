import os
import time
from pathlib import Path

import pytest

from rag.documents import formats
from rag.documents.chunking import ChunkingConfig
from rag.documents.formats import ReadingConfig
from rag.documents.sandbox import GuardedReader


def _hang(content, limits):
    time.sleep(60)


def _crash(content, limits):
    os._exit(11)


def _eat(content, limits):
    return "x" * 10**12, formats.Facts(), ()


def _break(content, limits):
    raise KeyError("inside a library")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(_hang, "not read within 2 s"), (_crash, "the parser crashed"), (_eat, "bytes of memory"), (_break, "KeyError")],
)
def test_a_parser_that_misbehaves_costs_one_file(tokenizer, tmp_path, monkeypatch, behaviour, reason):
    # The process is a fork of a server that was started before: what it reads with is set there.
    monkeypatch.setattr("rag.documents.sandbox.multiprocessing.get_context", _forking)
    monkeypatch.setattr(formats, "READERS", {**formats.READERS, ".txt": behaviour})
    reader = GuardedReader(ReadingConfig(timeout_s=2, memory_bytes=2**36), ChunkingConfig(), tokenizer)
    try:
        for name in ("bad.txt", "good.md"):
            Path(tmp_path, name).write_text("Tea.")
        assert reason in reader.read(tmp_path / "bad.txt", "bad.txt").reason
        assert len(reader.read(tmp_path / "good.md", "good.md").chunks) == 1
    finally:
        reader.close()


def _forking(method):
    import multiprocessing.context

    return multiprocessing.context.ForkContext()

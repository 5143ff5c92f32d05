"""Real sentences for `benchmarks.rag`: documentation and docstrings of the installed packages, and their vectors."""

import ast
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rag.embedding import SentenceTransformerEmbedder
from rag.embedding_model import EmbeddingConfig

CACHE = Path(".cache/bench/rag")
INDEXED, HELD_OUT = 200_000, 1_000
_BETWEEN = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sentences() -> list[str]:
    """Return INDEXED + HELD_OUT distinct sentences in an order of chance, collected once."""
    path = CACHE / "sentences.json"
    if path.exists():
        kept: list[str] = json.loads(path.read_text())
        return kept
    wanted = INDEXED + HELD_OUT
    found: set[str] = set()
    files = sorted(_files())
    random.Random(0).shuffle(files)
    for file in files:
        found.update(_sentences(file))
        if len(found) >= wanted * 1.05:
            break
    if len(found) < wanted:
        raise RuntimeError(f"only {len(found)} sentences in the installed packages; {wanted} are needed")
    chosen = random.Random(0).sample(sorted(found), wanted)
    CACHE.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(chosen))
    return chosen


def vectors(texts: list[str]) -> np.ndarray:
    """Return float16 [len(texts), 384] of the offline model, embedded once."""
    path = CACHE / "vectors.npy"
    if path.exists():
        kept: np.ndarray = np.load(path, allow_pickle=False)
        if len(kept) == len(texts):
            return kept
    embedder = SentenceTransformerEmbedder(EmbeddingConfig())
    parts = [embedder.embed(texts[start : start + 4096]) for start in range(0, len(texts), 4096)]
    found = np.concatenate(parts).astype(np.float16)
    np.save(path, found)
    return found


def _files() -> Iterator[Path]:
    packages = Path(sysconfig.get_paths()["purelib"])
    for pattern in ("*.py", "*.md", "*.rst"):
        yield from packages.rglob(pattern)
    yield from Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")


def _sentences(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
        texts = [text] if file.suffix != ".py" else _docstrings(ast.parse(text))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for text in texts:
        for piece in _BETWEEN.split(text):
            sentence = " ".join(piece.split())
            letters = sum(char.isalpha() or char == " " for char in sentence)
            if 30 <= len(sentence) <= 400 and letters > 0.8 * len(sentence) and len(sentence.split()) >= 6:
                yield sentence


def _docstrings(tree: ast.Module) -> list[str]:
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _DOCUMENTED)]
    return [text for text in found if text]

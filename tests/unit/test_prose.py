"""Docstrings make sense when read alone: an Args line is a noun phrase, not the end of a sentence."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FRAGMENT = re.compile(r"^ {4}\w+: (?:of|that|to be|in which|by which|over which)\b.*", re.MULTILINE)
SOURCES = [p for r in ("platform/llama_platform", "jobs", "rag", "serve_apps") for p in (ROOT / r).rglob("*.py")]


def docstrings(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, ast.get_docstring(node) or ""


def test_no_args_line_is_a_fragment():
    found = []
    for path in SOURCES:
        for line, text in docstrings(path):
            arguments = text.partition("Args:\n")[2].partition("\n\n")[0]
            found += [f"{path.relative_to(ROOT)}:{line}: {bad.strip()}" for bad in FRAGMENT.findall(arguments)]
    assert found == []

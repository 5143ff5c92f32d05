"""Docstrings make sense when read alone: an Args line is a noun phrase, not the end of a sentence."""

import ast
import re
import subprocess
import sys
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


def is_public(name):
    return not name.startswith("_") or name == "__init__"


def public_functions(tree):
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node.name):
            yield node


def test_public_functions_of_four_arguments_say_what_each_is():
    found = []
    for path in SOURCES:
        for node in public_functions(ast.parse(path.read_text())):
            every = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            names = [name for name in every if name not in ("self", "cls")]
            text = ast.get_docstring(node) or ""
            # A route's arguments are described in /openapi.json; an override's by what it overrides.
            exempt = any(isinstance(d, ast.Call) for d in node.decorator_list) or re.search(r"; see [A-Z]\w+\.$", text)
            if len(names) >= 4 and "Args:" not in text and not exempt:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert found == []


IMPORT_ALL = """
import importlib, pkgutil
from llama_platform.config import Config

for name in ("llama_platform", "jobs", "rag", "serve_apps"):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
        importlib.import_module(module.name)

def models(base):
    for model in base.__subclasses__():
        yield model
        yield from models(model)

for model in models(Config):
    for name, field in model.model_fields.items():
        if not field.description:
            print(f"{model.__module__}.{model.__name__}.{name}")
"""


def test_every_setting_has_a_line():
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr

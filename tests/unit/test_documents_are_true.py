"""What README and docs name exists: files behind links, modules behind `python -m`, configuration keys."""

import importlib.util
import re
from pathlib import Path

import pytest

from llama_platform.training.config import FinetuneConfig

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_jobs_and_configurations_exist(document):
    text = document.read_text()
    for name in re.findall(r"python -m jobs\.([\w.]+\w)", text.replace("\n", " ")):
        assert name == "NAME" or importlib.util.find_spec(f"jobs.{name}"), name
    for path in re.findall(r"\b(?:jobs|serve_apps|platform)/[\w/]+\.\w+", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_configuration_keys_exist(document):
    for section, key in re.findall(
        r"`(training|data|lora|adapter|evaluation|base)\.(?!json)(\w+)`", document.read_text()
    ):
        assert key in FinetuneConfig.model_fields[section].annotation.model_fields, f"{section}.{key}"


def test_the_readme_tree_names_what_is_there():
    tree = (ROOT / "README.md").read_text().split("## Where things are")[1].split("```")[1]
    folder = ROOT
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folder = ROOT / name if not line.startswith(" ") else folder
        path = ROOT / name if not line.startswith(" ") else folder / name
        assert path.exists(), name

"""The manual names what there is: every page of the documentation, and in its reference everything that has a name."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from llama_platform.metrics import METRICS

ROOT = Path(__file__).parents[2]


class _Loader(yaml.SafeLoader):
    """Reads what MkDocs adds to YAML as nothing."""


_Loader.add_multi_constructor("", lambda *_: None)


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs/manual/reference_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_has_a_line_that_says_what_it_means(pages):
    for model, _ in pages.COMMANDS.values():
        for name, default, text in pages.settings(model):
            assert text, f"{name} says nothing"
            assert default, name
    text = pages.settings_page()
    for name in ("training.learning_rate", "engine.vllm.max_loras", "rag.min_grounded", "sources", "questions"):
        assert f"| `{name}` |" in text


def test_every_route_is_there_with_its_fields(pages):
    text = pages.routes_page()
    for path in (
        "POST /predict",
        "POST /rag",
        "POST /v1/chat/completions",
        "POST /admin/adapters/{name}/canary",
        "GET /me",
    ):
        assert f"## {path}\n" in text
    assert "| `max_new_tokens` | body |" in text
    assert "/console/" not in text  # pages for browsers are no routes for programs


def test_every_command_is_there_with_its_options(pages):
    text = pages.commands_page()
    for name in ("adapters promote", "canary start", "keys create", "store copy", "bench", "status", "compare"):
        assert f"## llama-platform {name}\n" in text
    assert "| `--shares` | `5,20,50` | percent of the traffic, step by step |" in text


def test_every_metric_is_there(pages):
    text = pages.metrics_page()
    assert all(f"| `{metric.name}` |" in text for metric in METRICS.values())


def test_the_manual_leads_to_every_page():
    def named(entries):
        for entry in entries:
            for value in entry.values():
                yield from named(value) if isinstance(value, list) else [value]

    found = set(named(yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)["nav"]))  # a safe loader
    written = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    of_decisions = {page for page in written if page.startswith("decisions/")}
    reference = {f"reference/{name}.md" for name in ("settings", "routes", "commands", "metrics")}
    assert found == (written - of_decisions) | reference

"""Writes the manual's reference from the code: settings, routes, commands, metrics.

    python docs/manual/reference_pages.py FOLDER

`make docs` runs it; what it writes is kept nowhere else, so it cannot be out of date.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import typer
from pydantic import BaseModel

from jobs.evaluate_retrieval import RetrievalEvaluation
from llama_platform.batch.plan import BatchConfig
from llama_platform.cli.main import build_cli
from llama_platform.config import Config
from llama_platform.metrics import METRICS
from llama_platform.training.config import FinetuneConfig
from rag.indexing.build import IndexConfig
from serve_apps.config import AppConfig

COMMANDS: dict[str, tuple[type[Config], str]] = {
    "The application": (AppConfig, "`serve run serve_apps.app:app`, `python -m serve_apps.standalone`"),
    "Data, training, evaluation, merging": (
        FinetuneConfig,
        "`python -m jobs.prepare_data`, `jobs.finetune`, `jobs.evaluate`, `jobs.merge_adapter`",
    ),
    "Indexing": (IndexConfig, "`python -m jobs.build_index`, `jobs.erase_document`"),
    "Measuring retrieval": (RetrievalEvaluation, "`python -m jobs.evaluate_retrieval`"),
    "Batches of prompts": (BatchConfig, "`python -m jobs.batch_predict`"),
}


def main() -> None:
    """Write the pages."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "settings.md": settings_page(),
        "routes.md": routes_page(),
        "commands.md": commands_page(),
        "metrics.md": metrics_page(),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")


def settings_page() -> str:
    """Return every setting of every command, with its default and what it means."""
    lines = [
        "# Settings",
        "",
        "A setting comes from the YAML file, then from the environment "
        "(`LLAMA_PLATFORM_TRAINING__LEARNING_RATE=1e-4`), then from `--set training.learning_rate=1e-4`.",
    ]
    for title, (model, used_by) in COMMANDS.items():
        lines += ["", f"## {title}", "", f"{used_by}.", "", "| setting | default | |", "| --- | --- | --- |"]
        lines += [f"| `{name}` | {default} | {_cell(text)} |" for name, default, text in settings(model)]
    return "\n".join(lines) + "\n"


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (name, default, description) of each setting, groups one after the other."""
    for name, field in model.model_fields.items():
        group = _group(field.annotation)
        if group is not None:
            yield from settings(group, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        yield f"{prefix}{name}", default, field.description or ""


def routes_page() -> str:
    """Return every route with what it does and the fields of its body."""
    described = _application().openapi()
    lines = ["# Routes", "", "The same as `/docs` of a running application, which also tries them out."]
    for path, methods in sorted(described["paths"].items()):
        for method, facts in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", facts.get("description") or facts.get("summary", "")]
            rows = [(p["name"], p["in"], p.get("description", "")) for p in facts.get("parameters", ())]
            rows += [(name, "body", text) for name, text in _body(facts, described["components"]["schemas"])]
            if rows:
                lines += ["", "| field | in | |", "| --- | --- | --- |"]
                lines += [f"| `{name}` | {place} | {_cell(text)} |" for name, place, text in rows]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Return every command with what it does, its arguments and options."""
    lines = ["# Commands", "", "`llama-platform COMMAND --help` says the same."]
    root = typer.main.get_command(build_cli())
    for name, command in _commands(root, "llama-platform"):
        lines += [
            "",
            f"## {name}",
            "",
            command.help or "",
            "",
            "| argument or option | default | |",
            "| --- | --- | --- |",
        ]
        for parameter in command.params:
            shown = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
            default = "required" if parameter.required else _default(parameter.default)
            lines.append(f"| `{shown}` | {default} | {_cell(getattr(parameter, 'help', None) or '')} |")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Return the catalogue of metrics."""
    lines = ["# Metrics", "", "At Ray's Prometheus endpoint, each with `ray_` before its name.", ""]
    lines += ["| metric | kind | labels | |", "| --- | --- | --- | --- |"]
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {_cell(metric.text)} |")
    return "\n".join(lines) + "\n"


def _group(annotation: Any) -> type[BaseModel] | None:
    options = [annotation, *get_args(annotation)]
    return next((o for o in options if isinstance(o, type) and issubclass(o, Config)), None)


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "as below"
    text = ", ".join(map(str, value)) if isinstance(value, tuple | frozenset) else str(value)
    return f"`{_cell(text)}`" if text else "empty"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _application() -> Any:
    """Return the application around nothing: enough to be described."""
    from serve_apps.api.application import make_api

    config = AppConfig()
    nothing = SimpleNamespace()
    state: Any = SimpleNamespace(
        config=config, replies=nothing, keys=None,
        generation=SimpleNamespace(new_deadline=nothing), auditor=SimpleNamespace(answering=nothing, ended=nothing),
        drain=SimpleNamespace(counted=nothing),
    )  # fmt: skip
    return make_api(state, nothing)  # type: ignore[arg-type]


def _body(facts: dict[str, Any], schemas: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for content in facts.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        for option in (schema, *schema.get("anyOf", ())):
            named = schemas.get(option.get("$ref", "").rpartition("/")[2], option)
            for name, field in named.get("properties", {}).items():
                yield name, field.get("description", "")


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    subcommands = getattr(command, "commands", {})
    if not subcommands:
        yield name, command
    for sub, inner in subcommands.items():
        yield from _commands(inner, f"{name} {sub}")


if __name__ == "__main__":
    main()

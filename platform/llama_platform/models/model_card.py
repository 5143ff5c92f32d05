"""Model card: what an adapter is, where it comes from and how it is used, as the README.md of its folder."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined


def write_model_card(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Write `README.md`, with the metadata block that the Hugging Face hub reads.

    Args:
        folder: the adapter's folder.
        name: the adapter's name.
        facts: as in `training_args.json`.
    """
    header = {"base_model": facts["base"], "library_name": "peft", "pipeline_tag": "text-generation", "tags": ["lora"]}
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - Markdown
    card = environment.from_string(files(__package__).joinpath("model_card.md.j2").read_text(encoding="utf-8"))
    text = card.render(name=name, header=yaml.safe_dump(header, sort_keys=False), **facts)
    (folder / "README.md").write_text(text, encoding="utf-8")

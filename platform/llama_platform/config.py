"""Configuration: YAML, then environment, then `--set`, into one frozen, typed model.

A key that does not exist is an error that names the nearest one. Environment variables are
`LLAMA_PLATFORM_<KEY>`, with `__` between levels: `LLAMA_PLATFORM_TRAINING__LEARNING_RATE=1e-4`. Those of sections
that a command does not have are for other commands.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from llama_platform.errors import ConfigError

ENV_PREFIX = "LLAMA_PLATFORM_"
SECTIONS = frozenset(
    "adapter audit auth base chunking controller cors data embedding engine evaluation feedback indexing ingress limits"
    " llama lora prices rag reading retriever safety scaling store training".split()
)
"""Groups of keys that any command has."""


class Config(BaseModel):
    """Base of every configuration model: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _merge_groups_with_their_defaults(cls, values: Any) -> Any:
        """Let a group of keys change what it names and keep the rest of its own default."""
        if not isinstance(values, dict):
            return values
        merged = dict(values)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, Config) and isinstance(merged.get(name), dict):
                merged[name] = field.default.model_dump(exclude_unset=True) | merged[name]
            elif field.annotation == tuple[str, ...] and isinstance(merged.get(name), str):
                merged[name] = (merged[name],)  # one text is a list of one
        return merged


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(
    model: type[ConfigT],
    path: Path | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> ConfigT:
    """Return the configuration read from `path`, `environ` and `overrides`, later ones winning.

    Args:
        model: the pydantic model to fill.
        path: a YAML file; None for the model's defaults.
        overrides: `a.b=value` texts; values are YAML.
        environ: usually `os.environ`; None for no environment.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value does not fit.
    """
    values = read_yaml(path) if path else {}
    for name, text in sorted((environ or {}).items()):
        if name.startswith(ENV_PREFIX):
            keys = name.removeprefix(ENV_PREFIX).lower().split("__")
            if len(keys) > 1 and keys[0] not in model.model_fields and keys[0] in SECTIONS:
                continue  # a section of another command's configuration
            _set(values, keys, _parse_value(text, name), name)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override}: expected KEY=VALUE, such as training.learning_rate=1e-4")
        _set(values, key.strip().split("."), _parse_value(text, key), f"--set {override}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        where = str(path) if path else "configuration"
        raise ConfigError(describe_errors(model, error, where)) from error


def describe_errors(model: type[BaseModel], error: ValidationError, where: str) -> str:
    """Return a line per problem: where it is, what is wrong and, for an unknown key, the nearest one."""
    lines = []
    for problem in error.errors(include_url=False):
        location = [str(part) for part in problem["loc"]]
        name = ".".join(location)
        if problem["type"] == "extra_forbidden":
            known = _field_names(model, location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)
            hint = f"did you mean '{near[0]}'?" if near else "it takes no keys"
            lines.append(f"{where}: unknown key '{name}'; {hint}")
        else:
            obvious = problem["type"] == "missing" or isinstance(problem["input"], dict | BaseModel)
            given = "" if obvious else f" (given: {problem['input']!r})"
            reason = problem["msg"].removeprefix("Value error, ")  # pydantic's own head of validators' texts
            place = f"{where}: {name}" if name else where
            lines.append(f"{place}: {reason}{given}")
    return "\n".join(lines)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file; an empty one has none.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, path: str) -> dict[str, Any]:
    """Return the keys and values of a YAML text; an empty one has none.

    Args:
        text: the YAML.
        path: where it is from, for errors.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found {type(values).__name__}")
    return values


def _parse_value(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ConfigError(f"{where}: value is not valid YAML: {text!r}") from error


def _set(values: dict[str, Any], keys: list[str], value: Any, where: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: '{key}' is a value, not a group of keys")
    values[keys[-1]] = value


def _field_names(model: type[BaseModel], location: list[str]) -> list[str]:
    current: Any = model
    for part in location:
        if part.isdecimal():  # one of a list
            continue
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            return []
        annotation = fields[part].annotation
        options = [annotation, *get_args(annotation)]
        current = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
    return list(getattr(current, "model_fields", {}))

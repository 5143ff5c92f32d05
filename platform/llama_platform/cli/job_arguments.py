"""Arguments that all jobs share: `--config FILE` and `--set KEY=VALUE`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from llama_platform.config import load_config

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the shared arguments, to which a job may add its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="YAML file; without it, the defaults")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value; may be repeated"
    )
    return parser


def job_config(model: type[ConfigT], arguments: argparse.Namespace) -> ConfigT:
    """Return the configuration that the command line and the environment describe.

    Raises:
        ConfigError: the file or a value is wrong.
    """
    return load_config(model, arguments.config, arguments.set, os.environ)


def parse_job_args(model: type[ConfigT], description: str | None, argv: Sequence[str] | None = None) -> ConfigT:
    """Return the configuration of a job that has no arguments of its own.

    Raises:
        ConfigError: the file or a value is wrong.
    """
    return job_config(model, job_parser(description).parse_args(argv))

"""Arguments that all jobs share: `--config FILE` and `--set KEY=VALUE`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from llama_platform.config import load_config

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def parse_job_args(model: type[ConfigT], description: str, argv: Sequence[str] | None = None) -> ConfigT:
    """Return the configuration that the command line and the environment describe.

    Raises:
        ConfigError: the file or a value is wrong.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="YAML file; without it, the defaults")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value; may be repeated"
    )
    arguments = parser.parse_args(argv)
    return load_config(model, arguments.config, arguments.set, os.environ)

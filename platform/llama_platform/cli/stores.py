"""The store that commands work on."""

import os
from typing import Annotated

import typer

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.config import Config, load_config

Store = Annotated[str | None, typer.Option("--store", help="s3://bucket/prefix or file:///folder")]


class CliConfig(Config):
    """What the command line takes from the environment."""

    store: StoreConfig = StoreConfig()
    """Where artifacts are, and this node's cache of them."""


def open_store(uri: str | None) -> ArtifactRepository:
    """Return the repository that the command line and the environment name.

    Raises:
        ConfigError: the URI is not one of a store.
    """
    overrides = [f"store.uri={uri}"] if uri else []
    return repository_from(load_config(CliConfig, None, overrides, os.environ).store, os.environ)

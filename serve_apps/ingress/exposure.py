"""Exposure: whether an application that asks nobody for a key can be reached from elsewhere."""

from ray.serve.context import _get_global_client

from llama_platform.errors import ConfigError
from llama_platform.ports import is_loopback
from serve_apps.config import AuthConfig


def check_exposure(auth: AuthConfig) -> None:
    """Check that an application without keys listens on the loopback address, unless it may be open.

    Raises:
        ConfigError: it does not, and may not.
    """
    if auth.mode != "none" or auth.allow_open:
        return
    client = _get_global_client()
    host = client.http_config.host if client is not None else None
    if host is not None and not is_loopback(host):
        raise ConfigError(
            f"http_options.host is {host}, and auth.mode is none: whoever reaches the port could use it; set "
            "auth.mode: keys, or auth.allow_open: true where something in front of it asks for keys"
        )

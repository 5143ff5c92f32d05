from types import SimpleNamespace

import pytest

from llama_platform.errors import ConfigError
from serve_apps.config import AuthConfig
from serve_apps.ingress import exposure


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_an_application_without_keys_does_not_listen_elsewhere(host, monkeypatch):
    client = SimpleNamespace(http_config=SimpleNamespace(host=host))
    monkeypatch.setattr(exposure, "_get_global_client", lambda: client)
    with pytest.raises(ConfigError, match=r"auth\.allow_open"):
        exposure.check_exposure(AuthConfig())
    exposure.check_exposure(AuthConfig(mode="keys"))
    exposure.check_exposure(AuthConfig(allow_open=True))

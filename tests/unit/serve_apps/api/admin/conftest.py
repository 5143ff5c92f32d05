"""Administration, asked with its token."""

import pytest

from artifact_folders import import_versions
from llama_platform.artifacts.aliases import Aliases

TOKEN = "t" * 32


@pytest.fixture
def admin(make_http, repository, adapter_folder, tmp_path, monkeypatch):
    (tmp_path / "token").write_text(TOKEN + "\n")
    import_versions(repository, adapter_folder, tmp_path, 2)
    Aliases(repository, "adapter", "support").promote("production", 1)
    http = make_http(admin_token_file=tmp_path / "token")

    def ask(method, path, body=None, token=TOKEN):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return http._run(method, f"/admin{path}", json=body, headers=headers)

    return ask

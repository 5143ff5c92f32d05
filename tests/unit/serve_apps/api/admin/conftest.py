"""Administration, asked with its token."""

import pytest

from llama_platform.artifacts.aliases import Aliases

TOKEN = "t" * 32


@pytest.fixture
def admin(make_http, repository, adapter_folder, tmp_path, monkeypatch):
    from llama_platform.models.adapter_transfer import import_adapter

    (tmp_path / "token").write_text(TOKEN + "\n")
    for n in (1, 2):
        folder = tmp_path / f"adapter{n}"
        folder.mkdir()
        for path in adapter_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "note.txt").write_text(str(n))
        import_adapter(repository, "support", str(folder), "plain")
    Aliases(repository, "adapter", "support").promote("production", 1)
    http = make_http(admin_token_file=tmp_path / "token")

    def ask(method, path, body=None, token=TOKEN):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return http._run(method, f"/admin{path}", json=body, headers=headers)

    return ask

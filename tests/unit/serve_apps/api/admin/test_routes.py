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


def test_only_the_administrator_may(admin, http):
    assert admin("GET", "/adapters", token=None).status_code == 401
    assert admin("GET", "/adapters", token="x" * 32).status_code == 401
    assert admin("POST", "/adapters/support/promote", {"version": 2}, token="x").status_code == 401
    response = http.get("/admin/adapters", headers={"authorization": f"Bearer {TOKEN}"})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


def test_list_and_show_tell_what_is_live(admin):
    (listed,) = admin("GET", "/adapters").json()
    assert (listed["name"], listed["all_versions"]) == ("support", [1, 2])
    assert listed["live"]["production"]["status"] == "live"
    shown = admin("GET", "/adapters/support").json()
    assert shown["versions"][0]["metadata"]["imported"] is True
    assert [change["action"] for change in shown["history"]] == ["promote"]
    assert admin("GET", "/adapters/nobody").status_code == 404


def test_aliases_are_changed_as_by_the_command_line(admin, repository):
    aliases = Aliases(repository, "adapter", "support")
    assert admin("POST", "/adapters/support/promote", {"version": 2}).json()["generation"] == 2
    assert admin("POST", "/adapters/support/split", {"weights": {"1": 90, "2": 10}}).status_code == 200
    assert [t.weight for t in aliases.read().aliases["production"]] == [90, 10]
    assert admin("POST", "/adapters/support/rollback").json()["targets"] == [{"version": 2, "weight": 1}]
    conflict = admin("POST", "/adapters/support/promote", {"version": 1, "expected_generation": 1})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/adapters/support/promote", {"version": 9}, 404),
        ("/adapters/support/promote", {}, 400),
        ("/adapters/support/promote", {"version": 1, "alias": "../x"}, 400),
        ("/adapters/support/split", {"weights": {}}, 400),
        ("/adapters/support/split", {"weights": {"1": 0}}, 400),
        ("/adapters/Bad%20Name/promote", {"version": 1}, 400),
        ("/adapters/support/import", {"source": "/etc"}, 400),
        ("/adapters/export", {"ref": "support@1", "destination": "file:///tmp/x"}, 400),
    ],
)
def test_wrong_changes_are_refused(admin, path, body, status):
    assert admin("POST", path, body).status_code == status


def test_import_and_export_through_buckets(admin, s3_uri):
    target = f"{s3_uri}/out"
    exported = admin("POST", "/adapters/export", {"ref": "support@2", "destination": target})
    assert exported.json()["destination"] == target
    again = admin("POST", "/adapters/export", {"ref": "support@2", "destination": target})
    assert (again.status_code, again.json()["code"]) == (400, "invalid_input")
    imported = admin("POST", "/adapters/other/import", {"source": target})
    assert (imported.status_code, imported.json()["version"]) == (201, 1)

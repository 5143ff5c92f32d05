from llama_platform.artifacts.aliases import Aliases


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

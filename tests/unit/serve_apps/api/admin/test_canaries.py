from artifact_folders import import_versions
from llama_platform.access.registry import KeyRegistry
from llama_platform.artifacts.aliases import Aliases
from llama_platform.canary.conduct import Conductor
from llama_platform.canary.plan import CanaryPlan


def test_a_canary_is_started_shown_and_stopped(admin):
    started = admin("POST", "/adapters/support/canary", {"version": 2, "shares": [10, 50]}).json()
    assert (started["status"], started["candidate"], started["plan"]["shares"]) == ("running", 2, [10, 50])
    assert admin("GET", "/adapters/support/canary").json() == started
    assert [one["name"] for one in admin("GET", "/canaries").json()] == ["support"]
    again = admin("POST", "/adapters/support/canary", {"version": 2})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert admin("DELETE", "/adapters/support/canary").json()["status"] == "stopped"
    assert admin("DELETE", "/adapters/support/canary").status_code == 404


def test_wrong_plans_and_names_are_refused(admin):
    assert admin("POST", "/adapters/support/canary", {"version": 2, "shares": [0]}).status_code == 400
    assert admin("POST", "/adapters/support/canary", {"version": 1}).status_code == 409
    assert admin("POST", "/adapters/nobody/canary", {"version": 1}).status_code == 404
    assert admin("GET", "/adapters/support/canary", None).status_code == 404
    assert admin("GET", "/canaries").json() == []


def test_a_key_sees_the_canaries_of_its_adapters(make_http, repository, adapter_folder, tmp_path):
    import_versions(repository, adapter_folder, tmp_path, 2)
    Aliases(repository, "adapter", "support").promote("production", 1)
    Conductor(repository, "support", "production").start(2, CanaryPlan())
    seen = []
    for name, adapters in (("one", ("theirs",)), ("other", ("supp*",))):
        _, text = KeyRegistry(repository.store).create(name, "acme", ("admin:read",), adapters, ())
        http = make_http(auth={"mode": "keys"})
        seen.append(len(http.get("/admin/canaries", headers={"Authorization": f"Bearer {text}"}).json()))
    assert seen == [0, 1]

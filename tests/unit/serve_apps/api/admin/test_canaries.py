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

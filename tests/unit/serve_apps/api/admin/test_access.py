TOKEN = "t" * 32


def test_only_the_administrator_may(admin, http):
    assert admin("GET", "/adapters", token=None).status_code == 401
    assert admin("GET", "/adapters", token="x" * 32).status_code == 401
    assert admin("POST", "/adapters/support/promote", {"version": 2}, token="x").status_code == 401
    response = http.get("/admin/adapters", headers={"authorization": f"Bearer {TOKEN}"})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")

from fastapi.testclient import TestClient


def test_an_id_that_could_harm_a_log_is_refused(client):
    assert client.post("/echo/a", json={}, headers={"x-request-id": "a b"}).status_code == 400


def test_what_nobody_expected_is_answered_without_its_reason(client, observed):
    response = client.post("/echo/a", json={"fail": 1})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert observed == [("/echo/{name}", "internal")]


def test_the_deadline_begins_when_the_request_arrives(in_context):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["state"]["deadline"].left())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert TestClient(in_context(app)).get("/").status_code == 204
    assert 4 < seen[0] <= 5

from route_requests import predict


def test_a_full_engine_says_when_to_come_back(http):
    http.generator.engine._max_in_flight = 0
    response = predict(http)
    assert (response.status_code, response.json()["code"]) == (503, "overloaded")
    assert response.headers["retry-after"] == "2"  # half of the 4 s that answers take

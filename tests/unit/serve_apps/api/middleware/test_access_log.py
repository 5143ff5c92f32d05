from route_requests import predict


def test_every_request_is_logged_once_without_its_prompt(http, caplog):
    caplog.set_level("INFO", logger="serve_apps.api.middleware.access_log")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    http.post(
        "/predict",
        {"prompt": "a secret", "max_new_tokens": 5, "temperature": 0, "adapter": "support"},
        headers={"traceparent": trace},
    )
    predict(http, adapter="nobody")
    first, second = (r for r in caplog.records if r.name == "serve_apps.api.middleware.access_log")
    assert (first.path, first.status, first.adapter, first.version) == ("/predict", 200, "support", 1)
    assert first.outcome in ("stop", "length")
    assert first.trace == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert first.completion_tokens > 0
    assert "a secret" not in str(vars(first))
    assert (second.status, second.outcome) == (404, "not_found")
    assert http.observed.requests == [("/predict", first.outcome), ("/predict", "not_found")]
    assert len(http.observed.first_tokens) == 1

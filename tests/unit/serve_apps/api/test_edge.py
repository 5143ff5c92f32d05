"""What browsers are told: security headers on every answer, and CORS for the pages that may ask."""

import pytest

from llama_platform.errors import ConfigError
from serve_apps.config import parse_app_args

PAGE = "https://chat.example.com"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize("path", ["/health", "/predict", "/nothing", "/v1/models"])
def test_answers_are_data_and_no_pages(http, path):
    headers = http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]


def test_the_description_of_the_routes_is_a_page(http):
    assert "content-security-policy" not in http.get("/docs").headers


def test_no_page_of_another_host_may_ask_by_default(http):
    answer = http._run("OPTIONS", "/predict", headers=PREFLIGHT)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_pages_that_are_named_may_ask(make_http):
    http = make_http(cors={"origins": [PAGE]})
    answer = http._run("OPTIONS", "/predict", headers=PREFLIGHT)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "access-control-allow-credentials" not in answer.headers
    refused = http._run("OPTIONS", "/predict", headers={**PREFLIGHT, "Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in refused.headers
    for body in ({"prompt": "hi", "max_new_tokens": 2}, {}):  # errors, too, or the page sees none
        assert http.post("/predict", body, headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE


def test_every_page_with_credentials_is_refused():
    with pytest.raises(ConfigError, match="cors: credentials: with '\\*' every page could ask"):
        parse_app_args({"cors": {"origins": ["*"], "credentials": True}})

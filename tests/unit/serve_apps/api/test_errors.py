import pytest

from llama_platform.errors import (
    ConfigError,
    ConflictError,
    DeadlineError,
    EngineError,
    ForbiddenError,
    InputError,
    IntegrityError,
    OverloadedError,
    ReplicaLostError,
    StorageError,
    UnavailableError,
)
from serve_apps.api.errors import describe, openai_error, respond


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("temperature: too high"), 400, "invalid_input"),
        (ForbiddenError("x"), 403, "forbidden"),
        (ConflictError("x"), 409, "conflict"),
        (IntegrityError("x"), 422, "integrity"),
        (OverloadedError("x"), 503, "overloaded"),
        (ReplicaLostError("x"), 502, "replica_lost"),
        (UnavailableError("x"), 503, "unavailable"),
        (DeadlineError("x"), 504, "deadline"),
    ],
)
def test_our_errors_keep_their_text(error, status, code):
    problem = describe(error, "r1")
    assert (problem.status, problem.code, problem.detail, problem.request_id) == (status, code, str(error), "r1")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret path /etc/x"), 500, "internal"),
        (EngineError("CUDA at 0x7f"), 500, "engine"),
        (KeyError("kk"), 500, "internal"),
        (StorageError("s3://secret-bucket needs s3:GetObject"), 503, "storage"),
    ],
)
def test_what_is_not_the_clients_business_stays_inside(error, status, code):
    problem = describe(error, "r1")
    assert problem.status == status
    assert str(error) not in problem.detail


def test_unavailable_says_when_to_come_back():
    response = respond(describe(StorageError("x"), "r"))
    assert response.headers["retry-after"] == "5"
    assert response.headers["content-type"] == "application/problem+json"


def test_below_v1_errors_have_openais_form():
    problem = describe(InputError("max_tokens: 9 is over the limit of 5"), "r")
    assert openai_error(problem) == {
        "error": {
            "message": "max_tokens: 9 is over the limit of 5",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "invalid_input",
        }
    }
    response = respond(describe(DeadlineError("x"), "r"), "/v1/completions")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-should-retry"] == "false"  # the work was done, and thrown away


def test_a_wrong_configuration_is_the_servers_fault_and_not_shown(caplog):
    problem = describe(ConfigError("admin_token_file: cannot be read on this node: /etc/x"), "r1")
    assert (problem.status, problem.code) == (500, "internal")
    assert "/etc/x" not in problem.detail
    assert "/etc/x" in caplog.text


def test_a_method_that_a_path_has_not_is_told_which_it_has(http):
    response = http._run("TRACE", "/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/secret/adapters/support/versions/1.json: damaged: no digest",
        "file:///srv/secret/adapters/support/versions/1.json: damaged: no digest",
    ],
)
def test_where_the_store_is_stays_inside(text):
    detail = describe(IntegrityError(text), "r1").detail
    assert detail == "the store's 1.json: damaged: no digest"

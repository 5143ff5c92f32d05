import pytest

from llama_platform.errors import ConflictError, DeadlineError, EngineError, InputError, IntegrityError, StorageError
from serve_apps.http_errors import describe, respond


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("temperature: too high"), 400, "invalid_input"),
        (ConflictError("x"), 409, "conflict"),
        (IntegrityError("x"), 422, "integrity"),
        (StorageError("x"), 503, "storage"),
        (DeadlineError("x"), 504, "deadline"),
    ],
)
def test_our_errors_keep_their_text(error, status, code):
    problem = describe(error, "r1")
    assert (problem.status, problem.code, problem.detail, problem.request_id) == (status, code, str(error), "r1")


@pytest.mark.parametrize("error", [RuntimeError("secret path /etc/x"), EngineError("CUDA at 0x7f"), KeyError("k")])
def test_what_is_not_the_clients_business_stays_inside(error):
    problem = describe(error, "r1")
    assert (problem.status, problem.code) == (500, "internal")
    assert str(error) not in problem.detail


def test_unavailable_says_when_to_come_back():
    response = respond(describe(StorageError("x"), "r"))
    assert response.headers["retry-after"] == "5"
    assert response.headers["content-type"] == "application/problem+json"

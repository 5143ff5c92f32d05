import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from llama_platform.errors import ConflictError, DeadlineError, EngineError, InputError, IntegrityError, StorageError
from serve_apps.http_errors import describe, respond


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InputError("temperature: too high"), 400, "invalid_input"),
        (ConflictError("x"), 409, "conflict"),
        (IntegrityError("x"), 422, "integrity"),
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
        (EngineError("CUDA at 0x7f"), 500, "internal"),
        (KeyError("kk"), 500, "internal"),
        (StorageError("s3://secret-bucket needs s3:GetObject"), 503, "storage"),
        (RayActorError(), 502, "replica_lost"),
        (BackPressureError(num_queued_requests=9, max_queued_requests=9), 429, "overloaded"),
    ],
)
def test_what_is_not_the_clients_business_stays_inside(error, status, code):
    problem = describe(error, "r1")
    assert (problem.status, problem.code) == (status, code)
    assert str(error) not in problem.detail


def test_unavailable_says_when_to_come_back():
    response = respond(describe(StorageError("x"), "r"))
    assert response.headers["retry-after"] == "5"
    assert response.headers["content-type"] == "application/problem+json"

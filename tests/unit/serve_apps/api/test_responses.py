from types import SimpleNamespace

import pytest

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.inference.protocol import FinishEvent, Timings, Usage
from serve_apps.api.responses import context_of, model_of, response_metadata, usage_of
from serve_apps.config import AppConfig
from serve_apps.generation.safety import Safety

STATE = SimpleNamespace(
    config=AppConfig(), generation=SimpleNamespace(fingerprint="f" * 64), safety=Safety(AppConfig().safety)
)


def request(session: str | None) -> SimpleNamespace:
    headers = {} if session is None else {"x-session-id": session}
    return SimpleNamespace(headers=headers, state=SimpleNamespace(request_id="r-1", deadline=None, record=None))


@pytest.mark.parametrize(
    ("user", "session", "key"),
    [("ada", "s", "ada"), (None, "s", "s"), (None, None, "r-1"), ("", "", "r-1"), (None, "x" * 300, "x" * 200)],
)
def test_the_user_decides_a_split_before_the_session_and_the_request(user, session, key):
    assert context_of(STATE, request(session), user).split_key == key


def test_a_response_ends_with_what_it_cost_and_who_answered():
    adapter = ArtifactVersion("adapter", "support", 3, "d" * 64, "2026-01-01T00:00:00+00:00")
    finish = FinishEvent("stop", Usage(7, 2), Timings(queue_s=0.0012, first_token_s=None, total_s=0.5))
    found = response_metadata(STATE, adapter, finish)
    assert found["usage"] == usage_of(7, 2) == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert found["timings"] == {"queue_ms": 1.2, "first_token_ms": None, "total_ms": 500.0}
    assert (found["model"]["adapter"], found["model"]["version"]) == ("support", 3)
    assert model_of(STATE, None)["adapter"] is None

import json

import pytest

from llama_platform.data.checks.doctor import Finding
from llama_platform.data.checks.findings import REPORTED_PLACES, SHOWN_PROBLEMS, FindingsLog
from llama_platform.errors import InputError


@pytest.fixture
def log(tmp_path):
    with FindingsLog(tmp_path / "findings.jsonl") as log:
        yield log


def test_every_finding_is_written_and_the_first_are_summed_up(log, tmp_path):
    log.extend(Finding("email", f"a:{n}", "x", "warn") for n in range(REPORTED_PLACES + 5))
    found = log.summary()["email"]
    assert (found.count, found.actions, len(found.places)) == (105, {"warn": 105}, 100)
    log.refuse()
    log.__exit__()
    lines = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text().splitlines()]
    assert lines[104] == {"kind": "email", "where": "a:104", "problem": "x", "action": "warn"}


def test_what_stops_the_job_is_named_with_what_to_do(log):
    log.extend(Finding("malformed", f"a:{n}", "broken", "fail") for n in range(SHOWN_PROBLEMS + 3))
    with pytest.raises(InputError, match=r"(?s)a:0: broken.* and 3 more.*data\.policies\.malformed=drop"):
        log.refuse()

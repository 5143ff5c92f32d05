import io
import json
import logging

import pytest

from llama_platform import logs


@pytest.fixture
def stream():
    stream = io.StringIO()
    logs.setup_logging("info", stream)
    yield stream
    logging.getLogger("llama_platform").handlers = []


def test_one_json_line_per_event_with_fields_and_context(stream):
    logs.bind_context(run="r1")
    logging.getLogger("llama_platform.x").info("saved\nwell", extra={"step": 3})
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["step"], event["run"], event["level"]) == ("saved\nwell", 3, "r1", "info")


def test_exceptions_stay_on_the_line(stream):
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("llama_platform").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: boom" in json.loads(line)["exception"]

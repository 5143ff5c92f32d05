import json

import pytest

from llama_platform.audit.records import BEFORE_THE_FIRST, hash_of, make_record, parse_line, to_line
from llama_platform.errors import IntegrityError


def test_a_record_is_a_line_and_its_hash_covers_all_of_it():
    record = make_record("w", 1, BEFORE_THE_FIRST, "request", {"route": "/predict", "prompt": "ä\u2028\ud800"})
    line = to_line(record)
    assert line.count(b"\n") == 1
    assert len(line.splitlines()) == 1
    found = parse_line(to_line(make_record("w", 1, BEFORE_THE_FIRST, "request", {"n": 1})), "here")
    assert hash_of(found, BEFORE_THE_FIRST) == found["hash"]
    for name, value in (("n", 2), ("time", "x"), ("seq", 2), ("more", 1)):
        assert hash_of({**found, name: value}, BEFORE_THE_FIRST) != found["hash"]
    assert hash_of(found, "1" * 64) != found["hash"]


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"3", b"{", json.dumps({"seq": "1"}).encode(), b"\xff"])
def test_what_is_no_record_is_named(line):
    with pytest.raises(IntegrityError, match="here: no record"):
        parse_line(line, "here")

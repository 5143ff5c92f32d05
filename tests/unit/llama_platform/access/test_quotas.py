import pytest

from llama_platform.access.quotas import Quotas, parse_quotas
from llama_platform.errors import InputError


def test_quotas_are_read_from_a_text():
    assert parse_quotas("") == Quotas()
    found = parse_quotas("requests_per_minute=10, tokens_per_day=100000")
    assert found.named() == {"requests_per_minute": 10, "tokens_per_day": 100000}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rpm=3", "'rpm' is no limit; there are requests_per_minute"),
        ("requests_per_minute", "requests_per_minute: '' is no whole number from 1"),
        ("requests_per_minute=0", "'0' is no whole"),
        ("requests_per_minute=-1", "'-1' is no whole"),
        ("tokens_per_day=1e3", "'1e3' is no whole"),
        ("tokens_per_day=99999999999999999999", "is no whole"),
    ],
)
def test_what_is_none_is_named(text, said):
    with pytest.raises(InputError, match=said):
        parse_quotas(text)

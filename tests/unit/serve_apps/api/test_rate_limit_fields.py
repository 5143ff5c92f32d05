from llama_platform.access.quotas import Standing
from serve_apps.api.rate_limit_fields import rate_limit_fields


def test_fields_name_every_quota():
    assert rate_limit_fields([]) == {}
    fields = rate_limit_fields(
        [Standing("requests_per_minute", 10, 9, 42, 60), Standing("tokens_per_day", 100, 0, 7, 86400)]
    )
    assert fields == {
        "RateLimit-Policy": '"requests_per_minute";q=10;w=60, "tokens_per_day";q=100;w=86400',
        "RateLimit": '"requests_per_minute";r=9;t=42, "tokens_per_day";r=0;t=7',
    }

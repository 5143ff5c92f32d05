"""The header fields `RateLimit-Policy` and `RateLimit` (IETF draft-ietf-httpapi-ratelimit-headers-10)."""

from collections.abc import Sequence

from llama_platform.access.quotas import Standing


def rate_limit_fields(standings: Sequence[Standing]) -> dict[str, str]:
    """Return the fields that say what the quotas are, and what is left of them; empty without quotas."""
    if not standings:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{one.quota}";q={one.limit};w={one.window_s}' for one in standings),
        "RateLimit": ", ".join(f'"{one.quota}";r={one.left};t={one.resets_in_s}' for one in standings),
    }

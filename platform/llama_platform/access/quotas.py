"""Quotas: how much keys and tenants may use."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llama_platform.errors import InputError

MEMORY = "memory://"
"""Where one process counts for itself what is used."""
Amount = Annotated[int, Field(ge=1, le=10**15)]
QuotaName = Literal[
    "requests_per_minute", "tokens_per_minute", "concurrent_requests", "tokens_per_day", "tokens_per_month"
]


class Quotas(BaseModel):
    """How much may be used; None for as much as there is. Tokens are those of prompts and answers together."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    requests_per_minute: Amount | None = None
    """Requests within a minute, which begins with the first."""
    tokens_per_minute: Amount | None = None
    """Tokens within a minute, which begins with the first request."""
    concurrent_requests: Amount | None = None
    """Requests that are worked on at once."""
    tokens_per_day: Amount | None = None
    """Tokens within a day of UTC."""
    tokens_per_month: Amount | None = None
    """Tokens within a month of UTC."""

    def named(self) -> dict[QuotaName, int]:
        """Return the quotas that are set, by name."""
        found: dict[QuotaName, int] = self.model_dump(exclude_none=True)  # type: ignore[assignment]
        return found


def parse_quotas(text: str) -> Quotas:
    """Return the quotas of a text such as `requests_per_minute=10,tokens_per_day=100000`.

    Raises:
        InputError: a name is none of a quota, or an amount is no number above 0.
    """
    amounts: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amount = part.partition("=")
        if name not in Quotas.model_fields:
            raise InputError(f"'{name}' is no limit; there are {', '.join(Quotas.model_fields)}")
        if not amount.isdecimal() or not 1 <= int(amount) <= 10**15:
            raise InputError(f"{name}: '{amount}' is no whole number from 1")
        amounts[name] = int(amount)
    return Quotas(**amounts)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever has quotas of their own: a key or a tenant."""

    kind: Literal["key", "tenant"]
    name: str
    quotas: Quotas


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a quota is left, for the fields `RateLimit` and `RateLimit-Policy`."""

    quota: QuotaName
    limit: int
    left: int
    resets_in_s: int
    window_s: int

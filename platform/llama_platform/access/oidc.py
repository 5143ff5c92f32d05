"""Tokens of an identity provider (OpenID Connect Core 1.0): JWTs by issuer, audience and the issuer's public keys.

Keys are fetched beside the requests and kept, so that a request never waits for the provider; while it is away, those
that are known count.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import httpx
import jwt

from llama_platform.access.keys import SCOPES, Caller, Scope, TenantDefaults
from llama_platform.config import Config
from llama_platform.errors import UnauthorizedError, UnavailableError

log = logging.getLogger(__name__)
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key pair; a secret that both sides know would let this side make tokens."""
REFRESH_S = 300.0
"""How often keys are fetched."""
UNKNOWN_KEY_S = 10.0
"""How often they are fetched at most because a token names one that is not known."""
LEEWAY_S = 30
FETCH_TIMEOUT_S = 10.0


class OidcConfig(Config):
    """An identity provider whose tokens are taken."""

    issuer: str | None = None
    """The provider's issuer, such as `https://login.example.com/realms/acme`; None for no provider."""
    audience: str = "llama-platform"
    """What tokens must be meant for."""
    jwks_url: str | None = None
    """Where the provider's public keys are; None for what its discovery document says."""
    tenant_claim: str = "tenant"
    """The claim that names the tenant."""
    scope_claim: str = "scope"
    """The claim that holds scopes, as a list or with spaces between; those that are not known here are ignored."""


class TokenVerifier:
    """Knows the provider's keys; of one event loop."""

    def __init__(
        self,
        config: OidcConfig,
        tenants: Mapping[str, TenantDefaults],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Know no keys yet; `run` keeps them up to date.

        Args:
            config: the provider.
            tenants: what each tenant's callers see and may use.
            transport: how the provider is asked; None for HTTP.
        """
        self._config, self._tenants, self._transport = config, tenants, transport
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = 0.0
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Fetch keys for ever; while the provider is away, those that are known stay."""
        while True:
            try:
                await self.fetch()
            except UnavailableError as error:
                log.error("the keys of the identity provider cannot be read", extra={"reason": str(error)})
            try:
                async with asyncio.timeout(REFRESH_S if self._keys else UNKNOWN_KEY_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(max(0.0, self._fetched_at + UNKNOWN_KEY_S - time.monotonic()))
            self._wanted.clear()

    async def fetch(self) -> None:
        """Fetch the provider's keys now.

        Raises:
            UnavailableError: it does not answer, or not with keys.
        """
        self._fetched_at = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, transport=self._transport) as client:
                url = self._config.jwks_url or await self._discovered(client)
                found = (await client.get(url)).raise_for_status().json()
            self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(found).keys if key.key_id is not None}
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise UnavailableError(f"{self._config.issuer}: {type(error).__name__}: {error}") from error

    def caller(self, text: str) -> Caller:
        """Return who a token is of.

        Raises:
            UnauthorizedError: it is none that is taken.
            UnavailableError: the provider's keys are not known yet.
        """
        if not self._keys:
            raise UnavailableError("the keys of the identity provider are not known here yet; try again in a moment")
        claims = self._claims(text)
        tenant, scopes = claims.get(self._config.tenant_claim), claims.get(self._config.scope_claim, "")
        if not isinstance(tenant, str) or not tenant:
            raise UnauthorizedError(f"the token names no tenant: claim '{self._config.tenant_claim}'")
        given = scopes.split() if isinstance(scopes, str) else scopes if isinstance(scopes, list) else []
        defaults = self._tenants.get(tenant, TenantDefaults())
        known: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope in given)
        return Caller(
            key=f"oidc-{hashlib.sha256(str(claims['sub']).encode()).hexdigest()[:12]}",
            tenant=tenant,
            scopes=known,
            adapters=defaults.adapters,
            indexes=defaults.indexes,
            limits=defaults.limits,
        )

    def _claims(self, text: str) -> dict[str, Any]:
        try:
            key_id = jwt.get_unverified_header(text).get("kid")
            key = self._keys.get(str(key_id))
            if key is None:
                self._wanted.set()  # the provider may have changed its keys
                raise UnauthorizedError("this token is signed by a key that is not known here")
            claims: dict[str, Any] = jwt.decode(
                text,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise UnauthorizedError("this token is not taken here: " + _reason(error)) from error
        return claims

    async def _discovered(self, client: httpx.AsyncClient) -> str:
        url = f"{str(self._config.issuer).rstrip('/')}/.well-known/openid-configuration"
        found = (await client.get(url)).raise_for_status().json()
        if found["issuer"] != self._config.issuer:
            raise ValueError(f"{url} is of another issuer: {found['issuer']}")
        return str(found["jwks_uri"])


def _reason(error: jwt.PyJWTError) -> str:
    """Return why, in words that tell nothing of the keys."""
    reasons = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.InvalidAudienceError: "it is meant for another audience",
        jwt.InvalidIssuerError: "it is of another issuer",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.MissingRequiredClaimError: "it lacks a claim that is needed: exp, iss, aud or sub",
    }
    return reasons.get(type(error), "it is malformed, or not signed as it says")

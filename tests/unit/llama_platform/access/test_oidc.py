import asyncio
import json
import time

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from llama_platform.access import oidc
from llama_platform.access.keys import TenantDefaults
from llama_platform.access.oidc import OidcConfig, TokenVerifier
from llama_platform.errors import UnauthorizedError, UnavailableError

ISSUER = "https://login.example.com/realms/acme"
KEYS = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "new": rsa.generate_private_key(65537, 2048),
}


def public(name):
    algorithm = jwt.algorithms.ECAlgorithm if name == "ec" else jwt.algorithms.RSAAlgorithm
    return {**json.loads(algorithm.to_jwk(KEYS[name].public_key())), "kid": name, "use": "sig"}


class Provider(httpx.AsyncBaseTransport):
    """An identity provider; `names` are its keys."""

    def __init__(self, *names):
        self.names, self.asked, self.away, self.issuer = names, [], False, ISSUER

    async def handle_async_request(self, request):
        self.asked.append(request.url.path)
        if self.away:
            raise httpx.ConnectError("away")
        if request.url.path.endswith("openid-configuration"):
            return httpx.Response(200, json={"issuer": self.issuer, "jwks_uri": "https://login.example.com/keys"})
        return httpx.Response(200, json={"keys": [public(name) for name in self.names]})


def token(name="rsa", kid=None, algorithm=None, **claims):
    claims = {
        "iss": ISSUER, "aud": "llama-platform", "sub": "ada", "exp": time.time() + 60, "tenant": "acme",
        "scope": "openid generate rag", **claims,
    }  # fmt: skip
    claims = {name: value for name, value in claims.items() if value is not None}
    algorithm = algorithm or ("ES256" if name == "ec" else "RS256")
    return jwt.encode(claims, KEYS[name], algorithm, headers={"kid": kid or name})


@pytest.fixture
def provider():
    return Provider("rsa", "ec")


@pytest.fixture
def verifier(provider):
    tenants = {"acme": TenantDefaults(adapters=("support",), indexes=("docs",))}
    made = TokenVerifier(OidcConfig(issuer=ISSUER), tenants, provider)
    asyncio.run(made.fetch())
    return made


@pytest.mark.parametrize("name", ["rsa", "ec"])
def test_a_token_says_who_asks(verifier, name):
    found = verifier.caller(token(name))
    assert (found.tenant, found.scopes, found.adapters, found.indexes) == (
        "acme", ("generate", "rag"), ("support",), ("docs",),
    )  # fmt: skip
    assert found.key.startswith("oidc-")
    assert "ada" not in found.key
    assert verifier.caller(token(scope=["generate"])).scopes == ("generate",)
    assert verifier.caller(token(tenant="other")).adapters == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exp": time.time() - 60}, "it has expired"),
        ({"aud": "another"}, "another audience"),
        ({"iss": "https://evil.example.com"}, "another issuer"),
        ({"nbf": time.time() + 600}, "not valid yet"),
        ({"exp": None}, "lacks a claim"),
        ({"sub": None}, "lacks a claim"),
        ({"tenant": None}, "names no tenant: claim 'tenant'"),
        ({"tenant": ["acme"]}, "names no tenant"),
        ({"name": "new", "kid": "rsa"}, "not signed as it says"),
        ({"kid": "unknown"}, "signed by a key that is not known"),
    ],
)
def test_other_tokens_are_not_taken(verifier, changes, said):
    with pytest.raises(UnauthorizedError, match=said):
        verifier.caller(token(**changes))


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "a.b.c",
        jwt.encode({"sub": "x"}, None, "none", headers={"kid": "rsa"}),
        jwt.encode({"iss": ISSUER, "aud": "llama-platform", "sub": "x", "exp": time.time() + 60}, "s" * 64, "HS256",
                   headers={"kid": "rsa"}),
    ],
)  # fmt: skip
def test_what_is_unsigned_or_signed_by_a_secret_is_not_taken(verifier, text):
    with pytest.raises(UnauthorizedError):
        verifier.caller(text)


def test_keys_that_the_provider_changes_are_fetched_when_a_token_names_them(verifier, provider, monkeypatch):
    monkeypatch.setattr(oidc, "UNKNOWN_KEY_S", 0.05)

    async def go():
        running = asyncio.ensure_future(verifier.run())
        await asyncio.sleep(0.05)
        provider.names = ("new",)
        with pytest.raises(UnauthorizedError):
            verifier.caller(token("new"))
        await asyncio.sleep(0.3)
        assert verifier.caller(token("new")).tenant == "acme"
        asked = len(provider.asked)
        for _ in range(50):
            with pytest.raises(UnauthorizedError):
                verifier.caller(token(kid="made-up"))
        await asyncio.sleep(0.12)
        assert len(provider.asked) - asked <= 2 * 3  # two requests each time, not fifty times
        running.cancel()

    asyncio.run(go())


def test_while_the_provider_is_away_what_is_known_counts(verifier, provider):
    provider.away = True
    with pytest.raises(UnavailableError, match="away"):
        asyncio.run(verifier.fetch())
    assert verifier.caller(token()).tenant == "acme"
    unknowing = TokenVerifier(OidcConfig(issuer=ISSUER), {}, provider)
    with pytest.raises(UnavailableError, match="not known here yet"):
        unknowing.caller(token())


def test_a_discovery_document_of_another_issuer_is_not_followed(provider):
    provider.issuer = "https://evil.example.com"
    with pytest.raises(UnavailableError, match="is of another issuer"):
        asyncio.run(TokenVerifier(OidcConfig(issuer=ISSUER), {}, provider).fetch())

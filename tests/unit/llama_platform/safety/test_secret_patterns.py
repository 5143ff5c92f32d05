import re

import pytest

from llama_platform.safety.personal_data import find_personal_data, redact
from llama_platform.safety.secret_patterns import SECRETS

LETTERS = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
HEX = "0123456789abcdef" * 2
OF_EACH = {
    "Anthropic, DeepSeek, OpenAI, OpenRouter": f"sk-ant-api03-{LETTERS}",
    "Artifactory": f"AKCp{LETTERS}",
    "AWS access key": "ASIAIOSFODNN7EXAMPLE",
    "Azure account key": f"AccountKey={LETTERS[:60]}/+{LETTERS[:24]}==",
    "GitHub": f"github_pat_{LETTERS}",
    "GitLab": f"glpat-{LETTERS[:20]}",
    "Google": f"AIza{LETTERS[:35]}",
    "Hugging Face": f"hf_{LETTERS[:34]}",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpM",
    "Mailchimp": f"{HEX}-us12",
    "npm": f"//registry.example/:_authToken={LETTERS[:30]}",
    "password in a URL": "postgres://reader:hunter2@db.example",
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "PuTTY private key": "PuTTY-User-Key-File-3: ssh-ed25519",
    "PyPI": f"pypi-AgEIcHlwaS5vcmc{LETTERS}",
    "SendGrid": f"SG.{LETTERS[:22]}.{LETTERS[:43]}",
    "Slack": "xoxb-123456789012-abcdefABCDEF",
    "Square": f"sq0csp-{LETTERS[:43]}",
    "Stripe": f"sk_live_{LETTERS[:24]}",
    "Telegram": f"110201543:{LETTERS[:35]}",
    "Twilio": f"AC{HEX}",
    "llama-platform": f"lp_{HEX[:12]}_{HEX}{HEX}",
}


@pytest.mark.parametrize("kind", list(SECRETS))
def test_one_of_each_kind_is_found_in_a_sentence(kind):
    text = f"Use {OF_EACH[kind]} for it."
    assert SECRETS[kind].search(text)
    found = find_personal_data(text, "US")
    assert "secret" in {place.kind for place in found}
    shown = redact(text, found)
    assert LETTERS[:20] not in shown
    assert HEX not in shown


@pytest.mark.parametrize(
    "text",
    [
        "The skeleton sk-1 and a task-force; ghp is an abbreviation, hf_ too.",
        "See https://example.com:8080/a@b and mailto:someone, at 10:30 by 12345678:short.",
        "commit 0123456789abcdef0123456789abcdef01234567 and version AC12",
        "BEGIN PUBLIC KEY, and a private key is kept by its owner",
    ],
)
def test_what_only_resembles_one_is_left(text):
    assert [kind for kind, pattern in SECRETS.items() if pattern.search(text)] == []


@pytest.mark.parametrize("kind", list(SECRETS))
def test_no_repetition_is_without_a_bound(kind):
    assert not re.search(r"[*+]|,\}", re.sub(r"\[[^]]*\]", "", SECRETS[kind].pattern))

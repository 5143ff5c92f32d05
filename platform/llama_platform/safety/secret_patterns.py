"""Secrets by their looks: keys and tokens whose issuers document a form of their own.

What has no such form, as a password, is not told from other words. Every pattern is bounded, so that a search takes
time in proportion to the text.
"""

import re
from collections.abc import Mapping

_FORMS: Mapping[str, str] = {
    "Anthropic, DeepSeek, OpenAI, OpenRouter": r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{20,300}",
    "Artifactory": r"\bAKC[A-Za-z0-9]{10,200}",
    "AWS access key": r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}\b",
    "Azure account key": r"\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,88}={0,2}",
    "GitHub": r"\bgh[opusr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}",
    "GitLab": r"\bgl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-[A-Za-z0-9_=-]{20,300}",
    "Google": r"\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{20,300}|\bGOCSPX-[A-Za-z0-9_-]{28}",
    "Hugging Face": r"\bhf_[A-Za-z0-9]{30,60}",
    "JSON Web Token": r"\beyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}(?:\.[A-Za-z0-9_-]{0,1000})?",
    "Mailchimp": r"\b[0-9a-f]{32}-us[0-9]{1,2}\b",
    "npm": r"\bnpm_[A-Za-z0-9]{36}\b|_authToken=[^\s\"']{8,300}",
    "password in a URL": r"://[^\s:/?#@]{1,100}:[^\s:/?#@]{1,200}@",
    "private key": r"\bBEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY\b",
    "PuTTY private key": r"\bPuTTY-User-Key-File-[23]\b",
    "PyPI": r"\bpypi-[A-Za-z0-9_-]{50,400}",
    "SendGrid": r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "Slack": r"\bxox[abeposr]-[A-Za-z0-9-]{10,300}|\bhooks\.slack\.com/services/[A-Za-z0-9/_]{20,100}",
    "Square": r"\bsq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}|\bEAAA[A-Za-z0-9_-]{60}",
    "Stripe": r"\b(?:rk|sk)_(?:live|test)_[A-Za-z0-9]{16,250}|\bwhsec_[A-Za-z0-9]{32,64}",
    "Telegram": r"\b[0-9]{8,10}:[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
    "Twilio": r"\b(?:AC|SK)[0-9a-f]{32}\b",
    "llama-platform": r"\blp_[0-9a-f]{12}_[0-9a-f]{64}\b",
}
SECRETS: Mapping[str, "re.Pattern[str]"] = {name: re.compile(form) for name, form in _FORMS.items()}
"""By issuer or kind."""

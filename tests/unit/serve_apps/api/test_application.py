"""The description of the routes is true: every check of a fuzzer that reads it, over all of them.

The application runs around fakes, so that administration can be fuzzed, too.
"""

import subprocess
import sys

import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.models.adapter_transfer import import_adapter
from served_api import served

TOKEN = "t" * 32
SETTINGS = """
# Limits of the deployment, such as its context, vocabulary and answers at once, are in no schema: these say 400.
[[operations]]
include-path-regex = "^/(predict|rag|v1/chat/completions|v1/completions|v1/embeddings|v1/rerank|tokenize|detokenize)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "503"]
checks.negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "413", "415"]

# Which kinds of files are read, and which buckets exist, no schema says either.
[[operations]]
include-path-regex = "^/admin/(indexes/[^/]+/documents|adapters/[^/]+/import|adapters/export)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "404"]
"""


@pytest.fixture
def url(make_http, repository, adapter_folder, tmp_path):
    import_adapter(repository, "support", str(adapter_folder), "plain")
    Aliases(repository, "adapter", "support").promote("production", 1)
    (tmp_path / "token").write_text(TOKEN)
    limits = {"max_new_tokens": 64, "request_timeout_s": 20}
    http = make_http(admin_token_file=str(tmp_path / "token"), index="docs", limits=limits, rag={"rerank": "judge"})
    with served(http.api) as url:
        yield url


@pytest.mark.slow
def test_a_fuzzer_with_all_checks_finds_nothing(url, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--max-examples=5", "--checks=all",
         "--phases=coverage,fuzzing", "--request-timeout=25", "--seed=1", "--suppress-health-check=all",
         "--no-color", "--continue-on-failure", "-H", f"Authorization: Bearer {TOKEN}"],
        capture_output=True, text=True, timeout=280, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from llama_platform.access.keys import authenticate
from llama_platform.access.registry import KeyRegistry
from llama_platform.storage.open_store import open_store

PROGRAM = str(Path(sys.executable).parent / "llama-platform")


def test_a_key_is_made_listed_rotated_and_revoked(tmp_path):
    def run(*arguments):
        command = [PROGRAM, "keys", *arguments, "--store", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, env={"COLUMNS": "200"})

    made = run(
        "create",
        "ada",
        "--tenant",
        "acme",
        "--scopes",
        "rag,generate",
        "--adapters",
        "support, acme-*",
        "--limits",
        "requests_per_minute=60,tokens_per_day=9",
    )
    text, described, _ = made.stdout.splitlines()
    key_id = re.fullmatch(r"lp_([0-9a-f]{12})_[0-9a-f]{64}", text)[1]
    assert described == f"{key_id}  acme/ada  generate, rag  taken"
    document = KeyRegistry(open_store(str(tmp_path))).read()
    assert authenticate(document, text, datetime.now(UTC), {}).adapters == ("support", "acme-*")
    rotated = run("rotate", key_id, "--overlap-hours", "0").stdout.splitlines()[0]
    assert rotated != text
    assert "revoked" in run("revoke", key_id).stdout
    listed = run("list").stdout
    assert key_id in listed
    assert "requests_per_minute=60, tokens_per_day=9" in listed
    assert "revoked" in listed
    assert text.rpartition("_")[2] not in listed
    wrong = run("create", "bob", "--tenant", "acme", "--scopes", "all")
    assert (wrong.returncode, "'all' is none; there are generate" in wrong.stderr) == (2, True)

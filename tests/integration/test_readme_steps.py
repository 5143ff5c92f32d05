"""«The steps one by one» of the README, typed as printed in a folder with a user's files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_nodes import kill_group

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
CHATS = 240
"""Enough for the perplexity that the README asks for."""


def steps() -> list[str]:
    text = (ROOT / "README.md").read_text().split("## The steps one by one")[1]
    lines = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()
    assert lines.pop(0) == "source .venv/bin/activate"
    return lines


@pytest.fixture
def home(tmp_path):
    """A folder with the project's configurations and documents, and the user's own files."""
    for name in ("jobs", "serve_apps", "docs", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    lines = (ROOT / "jobs/data/sample_chats.jsonl").read_text().splitlines()[:CHATS]
    (tmp_path / "chats.json").write_text(json.dumps([json.loads(line) for line in lines]))
    labelled = {"question": "How do I roll back an adapter?", "text": "llama-platform adapters rollback"}
    (tmp_path / "labelled.jsonl").write_text(json.dumps(labelled) + "\n")
    questions = [{"id": f"q{n}", "prompt": "Who are you?", "max_new_tokens": 8} for n in range(4)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return tmp_path


def test_every_step_ends_well(home):
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(home / "home"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
    }
    said = {}
    for line in steps():
        if line.startswith("serve run"):  # serves until it is stopped; the serving tests start the same file
            continue
        with (home / "out.log").open("w+") as out:
            process = subprocess.Popen(
                ["bash", "-c", line],
                cwd=home,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=400)
            finally:
                if process.poll() is None:
                    kill_group(process)
            out.seek(0)
            said[line] = out.read()
        assert code == 0, f"{line}\n{said[line][-3000:]}"
        assert "Traceback" not in said[line], line
    assert any((home / "answers").iterdir())
    assert any("assistant" in text for line, text in said.items() if line.startswith("llama-platform adapters list"))

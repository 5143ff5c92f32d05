"""What README and the serving document tell people to type against a served application is run as printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from served_app import ADMIN_TOKEN

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
HERE = "http://127.0.0.1:8000"
AUTH = 'AUTH="Authorization: Bearer $(cat .demo/key)"'
"""The line before all others; each is run in a shell of its own here."""


def blocks(file, language):
    text = (ROOT / file).read_text()
    return [block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if HERE in block]


def run(app, command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **options).stdout


@pytest.fixture
def home(tmp_path):
    """A folder with what the demo leaves; the application of these tests asks for no key."""
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo/admin_token").write_text(ADMIN_TOKEN)
    (tmp_path / ".demo/key").write_text("lp_0123456789ab_" + "0" * 64)
    return tmp_path


@pytest.mark.parametrize("block", blocks("README.md", "sh"))
def test_curl_lines_answer(app, client, index, home, block):
    assert ("$AUTH" in block) <= (AUTH in (ROOT / "README.md").read_text())
    for command in re.findall(r"curl .*?(?=\ncurl |\Z)", block, re.DOTALL):
        out = run(app, ["bash", "-c", f"{AUTH}\n{command.replace(HERE, app.url)}"], cwd=home)
        answered = ('"text"', '"answer"', '"status":"ok"', '"adapters"', '"object":"list"', "event: done")
        assert any(sign in out for sign in answered), (command, out)


def test_the_openai_example_answers(app, home):
    (example,) = blocks("README.md", "python")
    assert len(example.strip().splitlines()) == 10
    assert run(app, [sys.executable, "-c", example.replace(HERE, app.url)], cwd=home).strip()


def test_administration_as_documented(app, home):
    (block,) = [found for found in blocks("docs/serving.md", "sh") if "/admin/" in found]
    listed, promoted = (
        run(app, ["bash", "-c", command.replace(HERE, app.url)], cwd=home)
        for command in re.findall(r"curl .*?(?=\ncurl |\Z)", block, re.DOTALL)
    )
    assert '"live"' in listed
    assert '"generation"' in promoted


def test_a_tenant_gets_a_key_and_its_use_is_shown(home):
    (block,) = [found for found in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
                if "--tenant acme" in found]  # fmt: skip
    first, *commands = block.strip().splitlines()
    assert first == "source .venv/bin/activate"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(home), "COLUMNS": "160"}
    created, usage, verified = (run(None, ["bash", "-c", command], cwd=home, env=environment) for command in commands)
    assert re.match(r"lp_[0-9a-f]{12}_[0-9a-f]{64}\n[0-9a-f]{12}  acme/ada  generate, rag  taken", created)
    assert "requests" in usage
    assert "nothing was edited" in verified

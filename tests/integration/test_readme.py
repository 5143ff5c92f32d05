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


def blocks(file, language):
    text = (ROOT / file).read_text()
    return [block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if HERE in block]


def run(app, command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **options).stdout


@pytest.mark.parametrize("block", blocks("README.md", "sh"))
def test_curl_lines_answer(app, client, index, block):
    for command in re.findall(r"curl .*?(?=\ncurl |\Z)", block, re.DOTALL):
        out = run(app, ["bash", "-c", command.replace(HERE, app.url)])
        answered = ('"text"', '"answer"', '"status":"ok"', '"adapters"', '"object":"list"', "event: done")
        assert any(sign in out for sign in answered), (command, out)


def test_the_openai_example_answers(app):
    (example,) = blocks("README.md", "python")
    assert len(example.strip().splitlines()) == 10
    assert run(app, [sys.executable, "-c", example.replace(HERE, app.url)]).strip()


def test_administration_as_documented(app, tmp_path):
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo/admin_token").write_text(ADMIN_TOKEN)
    (block,) = blocks("docs/serving.md", "sh")
    listed, promoted = (
        run(app, ["bash", "-c", command.replace(HERE, app.url)], cwd=tmp_path)
        for command in re.findall(r"curl .*?(?=\ncurl |\Z)", block, re.DOTALL)
    )
    assert '"live"' in listed
    assert '"generation"' in promoted

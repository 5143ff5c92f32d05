import json

from typer.testing import CliRunner

from artifact_folders import repository_of_versions
from llama_platform.cli.main import build_cli


def test_answers_are_shown_and_written(tmp_path, adapter_folder):
    store = (tmp_path / "store").as_uri()
    repository_of_versions(tmp_path, adapter_folder, 1)
    (tmp_path / "prompts.txt").write_text("Who are you?\n")
    for name in ("report.html", "report.json"):
        arguments = ["compare", "support@1", "base", "--prompts", str(tmp_path / "prompts.txt"), "--base", "tiny"]
        arguments += ["--max-new-tokens", "6", "--output", str(tmp_path / name), "--store", store]
        done = CliRunner().invoke(build_cli(), arguments, env={"COLUMNS": "150"})
        assert done.exit_code == 0, done.output
        assert "Who are you?" in done.output
        assert "same_as_the_first 1" in done.output
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["labels"] == ["support@1", "base"]
    assert written["lines"][0]["answers"][0]["tokens"] <= 6
    assert "<h1>support@1 and base</h1>" in (tmp_path / "report.html").read_text()

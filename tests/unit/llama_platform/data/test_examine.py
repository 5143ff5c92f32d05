import json

import pytest

from datasets_of_sources import prepare_sources
from llama_platform.data.checks.doctor import Policies
from llama_platform.data.config import DataConfig
from llama_platform.errors import InputError


def write_folder(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else "\n".join(map(json.dumps, content)))
    return DataConfig(sources=(str(folder),), max_tokens=64)


def chats_about(what, count=6):
    return [{"input": f"{what} {n}?", "output": f"answer {n} to {what}"} for n in range(count)]


def test_a_foreign_file_in_a_folder_is_a_finding_and_not_the_end(tmp_path, tiny_template):
    config = write_folder(
        tmp_path / "chats",
        {
            "a.jsonl": chats_about("one"),
            "package.json": '{"name": "x", "version": "1"}',
            "dataset_info.json": "{",
            "empty.json": "",
            "README.md": "# Chats",
            "mixed.jsonl": [{"foreign": 1}, *chats_about("two")],
        },
    )
    config = config.model_copy(update={"policies": Policies(malformed="drop")})
    report = prepare_sources(config, tiny_template, tmp_path / "out")
    places = {kind: [place.where for place in found.places] for kind, found in report.findings.items()}
    folder = tmp_path / "chats"
    assert sorted(places["unread_file"]) == sorted(
        f"{folder}/{name}:1" for name in ("package.json", "dataset_info.json", "empty.json", "README.md")
    )
    assert places["malformed"] == [f"{folder}/mixed.jsonl:1"]
    assert report.chats.kept == 12


def test_a_file_that_is_named_and_foreign_is_malformed(tmp_path, tiny_template):
    write_folder(tmp_path / "chats", {"package.json": '{"name": "x"}'})
    config = DataConfig(sources=(str(tmp_path / "chats/package.json"),))
    with pytest.raises(InputError, match=r"package\.json:1: unknown format.*\n1 findings stop the job"):
        prepare_sources(config, tiny_template, tmp_path / "out")


def test_a_damaged_list_keeps_what_comes_before_the_damage(tmp_path, tiny_template):
    text = json.dumps(chats_about("list"), indent=0)[:-2] + ",\n{oops"
    config = write_folder(tmp_path / "chats", {"a.json": text})
    with pytest.raises(InputError, match=r"a\.json:\d+: not valid JSON"):
        prepare_sources(config, tiny_template, tmp_path / "out")
    config = config.model_copy(update={"policies": Policies(malformed="drop")})
    assert prepare_sources(config, tiny_template, tmp_path / "out2").chats.kept == 6


def test_pictures_stop_the_job_and_tools_are_told(tmp_path, tiny_template):
    records = [{**chat, "tools": [1]} for chat in chats_about("tools")]
    config = write_folder(tmp_path / "chats", {"a.jsonl": records})
    report = prepare_sources(config, tiny_template, tmp_path / "out")
    assert report.findings["unread"].count == 6
    assert report.chats.kept == 6
    config = write_folder(tmp_path / "seen", {"a.jsonl": [{**chat, "images": ["x.png"]} for chat in records]})
    with pytest.raises(InputError, match="'images' is not trained on"):
        prepare_sources(config, tiny_template, tmp_path / "out2")

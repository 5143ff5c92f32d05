import asyncio
import json

import pytest

from artifact_folders import repository_of_versions
from llama_platform.errors import InputError, NotFoundError
from llama_platform.evaluation.side_by_side import Answered, Line, SideBySide, answer_side_by_side, page, read_prompts


@pytest.fixture(scope="module")
def repository(tmp_path_factory, adapter_folder):
    return repository_of_versions(tmp_path_factory.mktemp("store"), adapter_folder, 2)


def test_each_adapter_answers_each_prompt(repository):
    prompts = ["Who are you?", "Tell me about a baker.", "How hot?"]
    found = answer_side_by_side(repository, ["support@1", "support@2", "base"], prompts, 12, "tiny")
    assert found.labels == ("support@1", "support@2", "base")
    assert [line.prompt for line in found.lines] == prompts
    for line in found.lines:
        first, second, plain = line.answers
        assert first.text == second.text != plain.text  # both versions hold the same weights
        assert 0 < first.tokens <= 12
        assert not line.same
    of_first, of_second, of_base = found.summary()
    assert (of_first["same_as_the_first"], of_second["same_as_the_first"], of_base["same_as_the_first"]) == (1, 1, 0)
    assert of_base["rouge_l_with_the_first"] < 1


def test_what_cannot_be_compared_says_why(repository):
    with pytest.raises(InputError, match="name two adapters at least"):
        answer_side_by_side(repository, ["support@1"], ["x"], 4, "tiny")
    with pytest.raises(NotFoundError, match="no version 9"):
        answer_side_by_side(repository, ["support@1", "support@9"], ["x"], 4, "tiny")
    with pytest.raises(InputError, match="name it with --base"):
        answer_side_by_side(repository, ["base", "base"], ["x"], 4)


def test_prompts_are_lines_or_objects(tmp_path):
    lines, objects = tmp_path / "a.txt", tmp_path / "b.jsonl"
    lines.write_text("one\n\n two \n")
    objects.write_text(json.dumps({"prompt": "one\ntwo"}) + "\n")
    assert read_prompts(lines) == ["one", "two"]
    assert read_prompts(objects) == ["one\ntwo"]
    for text, words in (("", "holds no prompts"), ("{}", r"b\.jsonl:1: no JSON object"), ('{"prompt": 3}', "no text")):
        objects.write_text(text)
        with pytest.raises(InputError, match=words):
            read_prompts(objects)
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(tmp_path / "nothing.txt")


def test_the_page_shows_what_models_say_as_text():
    answers = (Answered("<script>alert(1)</script>", 3, 0.1, True), Answered("fine", 1, 0.1, False))
    text = page(SideBySide(("a@1", "b@2"), (Line("<b>Hi</b>", answers),)))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;b&gt;Hi" in text
    assert "1 tokens, not ended" in text


def test_it_works_within_a_running_loop_as_in_a_notebook(repository):
    async def cell():
        return answer_side_by_side(repository, ["support@1", "support@2"], ["Who are you?"], 3, "tiny")

    assert asyncio.run(cell()).labels == ("support@1", "support@2")

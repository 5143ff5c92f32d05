import json
from pathlib import Path

from jobs.shipped.sample_chats import CHATS, FACTS, compose_chats
from llama_platform.data.reading.formats import parse_chat
from llama_platform.data.reading.records import read_records
from llama_platform.data.reading.sources import SourceFile
from llama_platform.models.prompt import check_roles

FILE = Path(__file__).parents[4] / "jobs/data/sample_chats.jsonl"


def test_the_committed_chats_are_what_the_script_composes():
    assert [json.loads(line) for line in FILE.read_text().splitlines()] == compose_chats(CHATS)


def test_there_are_enough_and_all_are_different_multi_turn_chats():
    chats = [parse_chat(record.value, "messages") for record in read_records(SourceFile(FILE, str(FILE)))]
    assert len({json.dumps([m.content for m in chat]) for chat in chats}) >= 300
    for chat in chats:
        check_roles(chat)
        assert len(chat) >= 4


def test_no_answer_occurs_twice_so_that_none_that_is_held_out_is_trained_on():
    chats = [json.loads(line)["messages"] for line in FILE.read_text().splitlines()]
    answers = [turn["content"] for chat in chats for turn in chat if turn["role"] == "assistant"]
    assert len(set(answers)) == len(answers)


def test_every_fact_is_told():
    text = FILE.read_text()
    for fact in FACTS:
        assert any(json.dumps(answer)[1:-1] in text for answer in fact.answers), fact

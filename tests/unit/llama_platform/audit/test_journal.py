import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llama_platform.audit.journal import SEGMENT_RECORDS, Journal, record_act, recover
from llama_platform.audit.trail import read_trail, verify_trail
from llama_platform.errors import IntegrityError, StorageError
from llama_platform.storage.open_store import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


def problems(store):
    return [problem for chain in verify_trail(store) for problem in chain.problems]


def test_records_are_committed_in_segments_of_one_chain(store, folder):
    journal = Journal(folder, "w1")
    for number in range(3):
        journal.append("request", {"request": f"r{number}"})
        journal.commit(store)
    journal.commit(store)  # nothing new: nothing is written
    journal.append("request", {"request": "r3"})
    journal.close(store)
    assert len(list(store.list_keys("audit/"))) == 4
    assert [record.get("request") for record in read_trail(store)] == ["r0", "r1", "r2", "r3", None]
    (chain,) = verify_trail(store)
    assert (chain.writer, chain.records, chain.problems, chain.open) == ("w1", 5, (), False)
    assert list(folder.iterdir()) == []


def test_threads_append_to_one_chain(store, folder):
    journal = Journal(folder, "w1")
    threads = [
        threading.Thread(target=lambda: [journal.append("request", {"n": n}) for n in range(200)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close(store)
    (chain,) = verify_trail(store)
    assert (chain.records, chain.problems) == (1601, ())


def test_many_records_make_several_segments(store, folder):
    journal = Journal(folder, "w1")
    for number in range(SEGMENT_RECORDS + 1):
        journal.append("request", {"n": number})
    journal.commit(store)
    journal._file.close()
    assert len(list(store.list_keys("audit/"))) == 2
    assert problems(store) == []


def test_nothing_that_was_appended_is_lost_by_a_kill(store, folder):
    program = (
        "import sys\nfrom pathlib import Path\nfrom llama_platform.audit.journal import Journal\n"
        "from llama_platform.storage.open_store import open_store\n"
        f"journal, store = Journal(Path({str(folder)!r}), 'w1'), open_store({store.root!r})\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n    journal.append('request', {'request': f'r{n}'})\n    print(n, flush=True)\n"
        "    if n == 150:\n        journal.commit(store)\n"
    )
    environment = {**os.environ, "PYTHONPATH": "platform"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        answered = 0
        while answered < 400:
            answered = int(process.stdout.readline())
        assert recover(folder, store) == []  # it lives
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    answered = int(rest[-1]) if rest else answered
    assert recover(folder, store) == ["w1"]
    found = [record.get("request") for record in read_trail(store)]
    assert set(found) >= {f"r{number}" for number in range(1, answered + 1)}
    (chain,) = verify_trail(store)
    assert (chain.problems, chain.open) == ((), False)
    assert recover(folder, store) == []


def test_half_a_line_of_a_killed_process_is_left_out(store, folder):
    journal = Journal(folder, "w1")
    journal.append("request", {"request": "r1"})
    journal._file.write(b'{"writer":"w1","seq":2,"ki')
    journal._file.close()
    assert recover(folder, store) == ["w1"]
    assert [record["kind"] for record in read_trail(store)] == ["request", "recovered"]
    assert problems(store) == []


def test_what_a_process_ended_well_needs_no_recovery(store, folder):
    journal = Journal(folder, "w1")
    journal.append("request", {"request": "r1"})
    journal.append("stop", {})
    journal.commit(store)
    journal._file.close()
    recover(folder, store)
    assert [record["kind"] for record in read_trail(store)] == ["request", "stop"]


def test_a_write_whose_answer_was_lost_is_written_once(store, folder, monkeypatch):
    journal, write = Journal(folder, "w1"), store.write
    journal.append("request", {"n": 1})

    def written_and_lost(key, content, **kwargs):
        write(key, content, **kwargs)
        raise StorageError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", written_and_lost)
        with pytest.raises(StorageError):
            journal.commit(store)
    journal.append("request", {"n": 2})
    journal.commit(store)
    journal.append("request", {"n": 3})
    journal.close(store)
    (chain,) = verify_trail(store)
    assert (chain.records, chain.problems) == (4, ())


def test_other_records_under_a_chains_name_are_found(store, folder):
    journal = Journal(folder, "w1")
    journal.append("request", {"n": 1})
    day = json.loads(Path(folder, "w1.jsonl").read_text())["time"][:10]
    store.write(f"audit/{day}/w1-000000001.jsonl", b"something else\n")
    with pytest.raises(IntegrityError, match="holds other records"):
        journal.commit(store)
    journal._file.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="the audit trail cannot be written there"):
        Journal(tmp_path / "file" / "audit", "w1")


def test_a_full_disk_is_an_error_and_breaks_no_chain(store, folder, monkeypatch):
    journal = Journal(folder, "w1")
    journal.append("request", {"n": 1})
    file = journal._file

    class Full:
        def __getattr__(self, name):
            return getattr(file, name)

        def write(self, line):
            return file.write(line[:5])

    journal._file = Full()
    with pytest.raises(StorageError, match="nothing is done unseen"):
        journal.append("request", {"n": 2})
    journal._file = file
    journal.append("request", {"n": 3})
    journal.close(store)
    assert problems(store) == []


def test_an_act_beside_http_is_a_chain_of_its_own(store):
    record_act(store, "cli-1", "keys.revoke", {"key": "0" * 12, "who": "ada"})
    (chain,) = verify_trail(store)
    assert (chain.records, chain.problems, chain.open) == (2, (), False)
    assert next(iter(read_trail(store)))["what"] == "keys.revoke"

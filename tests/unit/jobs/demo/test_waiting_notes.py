import time

from jobs.demo import waiting_notes
from jobs.demo.waiting_notes import WaitingNotes


def test_what_is_waited_for_is_said_after_a_silence(monkeypatch):
    monkeypatch.setattr(waiting_notes, "SILENCE_S", 0.6)
    said = []
    notes = WaitingNotes(said.append)
    with notes.during("the first"):
        while not said:
            time.sleep(0.05)
        notes.now("the second")
        while len(said) < 2:
            time.sleep(0.05)
    assert ["the first" in said[0], "the second" in said[1]] == [True, True]

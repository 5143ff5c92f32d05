import json

import pytest

from llama_platform.errors import StorageError
from llama_platform.storage.open_store import open_store
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run import log as run_log
from llama_platform.training.run.log import RunLog, read_metrics
from llama_platform.training.run.metrics import StepMetrics


def record(step, loss=1.0, eval_loss=None):
    return StepMetrics(step, 10, loss, 1e-3, 0.5, 100.0, 1.0, eval_loss)


@pytest.fixture
def store(tmp_path):
    return open_store((tmp_path / "store").as_uri())


def test_the_folder_shows_the_run(store, tmp_path):
    with RunLog(store, "r", FinetuneConfig()) as log:
        assert json.loads(store.read("runs/r/status.json").content)["status"] == "running"
        log.add([record(1, 3.0), record(2, 2.0, eval_loss=2.5)])
        log.close("finished", adapter="assistant@1")
    assert [r.loss for r in read_metrics(store, "r")] == [3.0, 2.0]
    assert store.read("runs/r/loss.png").content.startswith(b"\x89PNG")
    page = store.read("runs/r/report.html").content.decode()
    assert "assistant@1" in page
    assert "2.5000" in page
    assert json.loads(store.read("runs/r/status.json").content)["adapter"] == "assistant@1"
    assert any("tfevents" in key for key in store.list_keys("runs/r/tensorboard/"))


def test_tensorboard_files_hold_the_scalars(store, tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    with RunLog(store, "r", FinetuneConfig()) as log:
        log.add([record(7, 3.5)])
        log.close("finished")
    (key,) = store.list_keys("runs/r/tensorboard/")
    content, values = store.read(key).content, {}
    while content:  # length, its checksum, the event, its checksum
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        values |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        content = content[16 + size :]
    assert values["training/loss"] == (7, 3.5)


def test_a_continued_run_keeps_its_curve_and_repeated_steps_replace_the_first(store):
    with RunLog(store, "r", FinetuneConfig()) as log:
        log.add([record(n, loss=10 - n) for n in range(1, 6)])
        log.close("stopped")
    with RunLog(store, "r", FinetuneConfig()) as log:
        # The workers repeat what the driver may have missed: that is no news, and no new beginning.
        assert log.add([record(2, loss=8), record(3, loss=7)]) == []
        assert [r.step for r in log.add([record(4, loss=0.4)])] == [4]
        assert [(r.step, r.loss) for r in log.records()] == [(1, 9), (2, 8), (3, 7), (4, 0.4)]
        log.add([record(5, loss=0.5)])
        log.close("finished")
    assert [r.loss for r in read_metrics(store, "r")] == [9, 8, 7, 0.4, 0.5]


def test_metrics_are_written_as_the_run_goes(store, monkeypatch):
    monkeypatch.setattr(run_log, "METRICS_EVERY_S", 0.0)
    monkeypatch.setattr(run_log, "PICTURES_EVERY_S", 0.0)
    with RunLog(store, "r", FinetuneConfig()) as log:
        log.add([record(1)])
        assert len(read_metrics(store, "r")) == 1
        assert store.read("runs/r/loss.png").content


def test_the_picture_is_drawn_at_the_end_also_where_the_metrics_were_written_before(store, monkeypatch):
    monkeypatch.setattr(run_log, "METRICS_EVERY_S", 0.0)
    with RunLog(store, "r", FinetuneConfig()) as log:
        log.add([record(1)])
        log.close("finished")
    assert store.read("runs/r/loss.png").content.startswith(b"\x89PNG")
    assert any("tfevents" in key for key in store.list_keys("runs/r/tensorboard/"))


def test_a_store_that_refuses_does_not_end_the_run_but_its_close_is_loud(store, monkeypatch):
    monkeypatch.setattr(run_log, "METRICS_EVERY_S", 0.0)

    def refuse(*_, **__):
        raise StorageError("cannot write")

    with RunLog(store, "r", FinetuneConfig()) as log:
        monkeypatch.setattr(type(store), "write", refuse)
        log.add([record(1)])
        assert len(log.records()) == 1
        with pytest.raises(StorageError):
            log.close("finished")

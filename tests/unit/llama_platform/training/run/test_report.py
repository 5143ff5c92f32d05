import pytest

from llama_platform.storage.open_store import open_store
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run.log import RunLog, add_comparison
from llama_platform.training.run.metrics import StepMetrics


def record(step, loss=1.0, eval_loss=None):
    return StepMetrics(step, 10, loss, 1e-3, 0.5, 100.0, 1.0, eval_loss)


@pytest.fixture
def store(tmp_path):
    return open_store((tmp_path / "store").as_uri())


def test_the_report_has_duration_rate_and_later_the_comparison(store):
    with RunLog(store, "r", FinetuneConfig()) as log:
        log.add([record(1), record(2)])
        log.close("finished")
    page = store.read("runs/r/report.html").content.decode()
    assert "Learning rate by step" in page
    assert "duration" in page
    assert "Not evaluated yet" in page
    scores = [{"label": label, "measures": {"perplexity": value}} for label, value in (("a@1", 2.0), ("base", 9.0))]
    sample = {"prompt": "Who <b>are</b> you?", "answers": {"a@1": "me", "base": "hm"}, "reference": None}
    comparison = {
        "candidate": scores[0], "against": scores[1], "dataset": "chats@1", "chats": 5, "answer_tokens": 70,
        "samples": [sample],
    }  # fmt: skip
    add_comparison(store, "r", comparison, {"x": 1})
    page = store.read("runs/r/report.html").content.decode()
    for piece in ("a@1 beside base", "9.0000", "Who &lt;b&gt;are&lt;/b&gt; you?", "5 held-out chats of chats@1"):
        assert piece in page

"""Run report: the curve of a run and what came of it, as a page."""

import base64
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import yaml

from llama_platform.charts import BLUE, RED, new_chart, png
from llama_platform.pages import render_page
from llama_platform.training.run.metrics import StepMetrics


def loss_chart(records: Sequence[StepMetrics]) -> bytes:
    """Return a PNG of the loss of the steps and of the held-out chats."""
    figure, axes = new_chart("Loss")
    axes.plot([r.step for r in records], [r.loss for r in records], color=BLUE, linewidth=1, label="training")
    held_out = [(r.step, r.eval_loss) for r in records if r.eval_loss is not None]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color=RED, marker="o", markersize=3, label="held out")
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("nats per token")
    axes.legend()
    return png(figure)


def rate_chart(records: Sequence[StepMetrics]) -> bytes:
    """Return a PNG of the learning rate of the steps."""
    figure, axes = new_chart("Learning rate")
    axes.plot([r.step for r in records], [r.learning_rate for r in records], color=BLUE, linewidth=1)
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return png(figure)


def render_report(
    run_id: str,
    status: Mapping[str, Any],
    settings: Mapping[str, Any],
    records: Sequence[StepMetrics],
    comparison: Mapping[str, Any],
) -> str:
    """Return the page.

    Args:
        run_id: name of the run.
        status: content of its `status.json`.
        settings: what the run was configured with, JSON values.
        records: metrics of its steps.
        comparison: the adapter beside another on held-out chats, as `evaluation.compare.Comparison` in JSON values;
            empty where nothing was evaluated.
    """
    return render_page(
        __package__,
        "report.html.j2",
        run_id=run_id,
        facts={**status, "duration": timedelta(seconds=status.get("seconds", 0))},
        comparison=comparison,
        records=[*records[:1], *(r for r in records[1:-1] if r.eval_loss is not None), *records[1:][-1:]],
        charts={
            "Loss by step": base64.b64encode(loss_chart(records)).decode(),
            "Learning rate by step": base64.b64encode(rate_chart(records)).decode(),
        },
        settings=yaml.safe_dump(dict(settings), sort_keys=False),
    )

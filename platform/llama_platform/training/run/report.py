"""Run report: the curve of a run and what came of it, as a page."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from llama_platform.charts import BLUE, RED, new_chart, png
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


def render_report(
    run_id: str,
    status: str,
    settings: Mapping[str, Any],
    records: Sequence[StepMetrics],
    facts: Mapping[str, Any],
) -> str:
    """Return the page.

    Args:
        run_id: of the run.
        status: how it ended.
        settings: what the run was configured with, JSON values.
        records: of its steps.
        facts: further rows of the table on top.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    return page.render(
        run_id=run_id,
        status=status,
        facts=facts,
        records=[*records[:1], *(r for r in records[1:-1] if r.eval_loss is not None), *records[1:][-1:]],
        chart=base64.b64encode(loss_chart(records)).decode(),
        settings=yaml.safe_dump(dict(settings), sort_keys=False),
    )

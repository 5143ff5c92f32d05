"""The doctor's report: `report.json` for programs, `report.html` with plots and coloured samples for people."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llama_platform.charts import BLUE, RED, new_chart, svg
from llama_platform.data.report.token_view import view_tokens
from llama_platform.data.report.values import DatasetReport
from llama_platform.models.prompt import Message, PromptTemplate
from llama_platform.pages import render_page

SAMPLES = 8
TITLES = {
    "tokens": "Tokens per chat",
    "turns": "Turns per chat",
    "trained_share": "Share of tokens that count in the loss",
}


def write_report(
    report: DatasetReport,
    distributions: Mapping[str, Sequence[float]],
    folder: Path,
    template: PromptTemplate,
    max_tokens: int,
) -> None:
    """Write `report.json` and `report.html` beside the `train.parquet` of `folder`.

    Args:
        report: counts and findings.
        distributions: one value per kept chat, under the keys of TITLES.
        folder: folder of the dataset.
        template: renders the samples.
        max_tokens: marked in the plot of lengths.
    """
    (folder / "report.json").write_text(
        json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    plots = [_histogram(TITLES[key], distributions[key], max_tokens if key == "tokens" else None) for key in TITLES]
    counts = {kind: found.count for kind, found in report.findings.items()}
    if counts:
        plots.append(_bars("Findings", counts))
    samples = [_coloured(row, template) for row in _first_rows(folder / "train.parquet", SAMPLES)]
    text = render_page(__package__, "page.html.j2", report=report, plots=plots, samples=samples)
    (folder / "report.html").write_text(text, encoding="utf-8")


def _first_rows(file: Path, count: int) -> list[dict[str, Any]]:
    batch = next(pq.ParquetFile(file).iter_batches(batch_size=count), None)
    return [] if batch is None else list(batch.to_pylist())


def _coloured(row: Mapping[str, Any], template: PromptTemplate) -> dict[str, str]:
    tokens = view_tokens([Message(**message) for message in row["messages"]], template)
    spans = (
        f'<span class="{"trained" if token.trained else "context"}">{html.escape(token.text)}</span>'
        for token in tokens
    )
    return {"where": row["source"], "tokens": "".join(spans)}


def _histogram(title: str, values: Sequence[float], mark: float | None) -> str:
    figure, axes = new_chart(title)
    whole = all(float(value).is_integer() for value in values)
    few = whole and len(values) > 0 and max(values) - min(values) < 40
    axes.hist(values, bins=[n - 0.5 for n in range(int(min(values)), int(max(values)) + 2)] if few else 40, color=BLUE)
    if whole:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if mark is not None:
        axes.axvline(mark, color=RED, linestyle="--", label=f"max_tokens {mark:g}")
        axes.legend()
    axes.set_ylabel("chats")
    return svg(figure)


def _bars(title: str, counts: Mapping[str, int]) -> str:
    figure, axes = new_chart(title)
    axes.bar_label(axes.barh(list(counts), list(counts.values()), color=BLUE), padding=3)
    axes.margins(x=0.15)
    return svg(figure)

"""Charts in the platform's style, drawn by matplotlib without a display, as SVG or PNG."""

from io import BytesIO, StringIO
from typing import Any

BLUE, RED, GREY = "#4477aa", "#aa3377", "#bbbbbb"


def new_chart(title: str) -> tuple[Any, Any]:
    """Return (figure, axes)."""
    from matplotlib.figure import Figure  # half a second to import: not everybody draws

    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg(figure: Any) -> str:
    """Return a figure as an SVG element that can stand in a page; equal figures give equal texts."""
    from matplotlib import rc_context

    text = StringIO()
    with rc_context({"svg.hashsalt": "llama-platform"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return "<svg" + text.getvalue().partition("<svg")[2]


def png(figure: Any) -> bytes:
    """Return a figure as a PNG file."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()

"""Outcome of a benchmark: measures with their peers, as a table and as the last line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Literal

from rich.console import Console
from rich.table import Table

from llama_platform.processor import cores, cpu_name, instructions


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure, what it should reach, and what it was made of."""

    value: float
    aim: float
    better: Literal["higher", "lower"]
    unit: str
    ours: float
    peers: dict[str, float]

    def reached(self) -> bool:
        """Return whether the aim is reached."""
        return self.value >= self.aim if self.better == "higher" else self.value <= self.aim


def publish(benchmark: str, measures: Mapping[str, Measure], packages: list[str], missing_peers: list[str]) -> None:
    """Print the table on stderr and the JSON on stdout."""
    title = f"{benchmark}: {cpu_name()}, {cores()} cores, {' '.join(instructions())}"
    table = Table("measure", "value", "aim", "ours", "peers", title=title)
    for name, measure in measures.items():
        sign = "≥" if measure.better == "higher" else "≤"
        peers = ", ".join(f"{peer} {value:,.3g}" for peer, value in measure.peers.items())
        mark = "" if measure.reached() else "  (missed)"
        table.add_row(name, f"{measure.value:.3f}", f"{sign} {measure.aim}{mark}", f"{measure.ours:,.4g}", peers)
    Console(stderr=True, width=150).print(table)
    result = {
        "benchmark": benchmark,
        "machine": {"cpu": cpu_name(), "cores": cores(), "instructions": instructions()},
        "versions": {package: version(package) for package in packages},
        "measures": {name: asdict(measure) for name, measure in measures.items()},
        "missing_peers": missing_peers,
    }
    print(json.dumps(result), flush=True)

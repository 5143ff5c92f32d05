"""Products: which implementation of a matrix product is fastest here, found by timing them when a model is loaded.

The vector units multiply few rows while the weights come from memory; a matrix unit multiplies many. From how many rows
on it is worth it depends on the processor, its memory and the shape, so nothing here asks for a processor's name.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

Implementation = Literal["vector", "matrix"]
ProductSetting = Literal["auto", "vector", "matrix"]
MEASURED_ROWS = (1, 2, 4, 8, 16, 32, 64, 256)
"""Numbers of rows that are timed; others are computed as the next larger one."""
_CLEARLY = 0.95
"""A share of the time of the vector units that is no noise."""
_BUDGET_S = 0.02
"""For the timing of one implementation with one shape and number of rows, beyond a single try."""


class Products:
    """The fastest implementation by shape and number of rows."""

    def __init__(self, chosen: Mapping[str, Sequence[Implementation]]) -> None:
        """Use a choice.

        Args:
            chosen: by the name of a shape, an implementation for each of MEASURED_ROWS.
        """
        self._chosen = dict(chosen)

    def choose(self, shape: str, rows: int) -> Implementation:
        """Return the implementation for a number of rows."""
        of_shape = self._chosen[shape]
        place = next((n for n, measured in enumerate(MEASURED_ROWS) if measured >= rows), len(MEASURED_ROWS) - 1)
        return of_shape[place]

    @property
    def use_matrix_unit(self) -> bool:
        """Whether any product of many rows is on the matrix unit."""
        return any("matrix" in of_shape for of_shape in self._chosen.values())

    def summary(self) -> dict[str, str]:
        """Return what was chosen for each shape in words, such as `vector up to 4 rows, matrix beyond`."""
        return {shape: _in_words(of_shape) for shape, of_shape in self._chosen.items()}


def measure(
    shapes: Sequence[str], setting: ProductSetting, available: bool, run: Callable[[str, int, Implementation], None]
) -> Products:
    """Return the fastest implementation of each shape.

    Args:
        shapes: names of the products of a model.
        setting: `auto` to time them, or what to use whatever it costs.
        available: whether there is a matrix unit that may be used.
        run: computes a product of this shape and number of rows with an implementation.
    """
    if setting == "vector" or not available:
        return Products({shape: ["vector"] * len(MEASURED_ROWS) for shape in shapes})
    if setting == "matrix":
        return Products({shape: ["matrix"] * len(MEASURED_ROWS) for shape in shapes})
    return Products({shape: _fastest(shape, run) for shape in shapes})


def _fastest(shape: str, run: Callable[[str, int, Implementation], None]) -> list[Implementation]:
    """Return `vector` for small numbers of rows and `matrix` for the others, where that is fastest over all of them.

    One number that a busy machine has disturbed cannot turn what its neighbours say.
    """
    gained = [0.0]  # logarithms of what the matrix unit saves, summed from each number of rows on
    for rows in reversed(MEASURED_ROWS):
        vector, matrix = _time(shape, rows, run)
        gained.insert(0, gained[0] + math.log(_CLEARLY * vector / matrix))
    first = max(range(len(gained)), key=lambda place: gained[place])
    on_vectors: list[Implementation] = ["vector"] * first
    on_matrix_unit: list[Implementation] = ["matrix"] * (len(MEASURED_ROWS) - first)
    return on_vectors + on_matrix_unit


def _time(shape: str, rows: int, run: Callable[[str, int, Implementation], None]) -> tuple[float, float]:
    """Return the shortest seconds of a product on the vector units and on the matrix unit."""
    times: dict[Implementation, float] = {"vector": math.inf, "matrix": math.inf}
    began = time.perf_counter()
    while True:  # by turns, so that a disturbance meets both
        for name in times:
            start = time.perf_counter()
            run(shape, rows, name)
            times[name] = min(times[name], time.perf_counter() - start)
        if time.perf_counter() - began > _BUDGET_S:
            return times["vector"], times["matrix"]


def _in_words(of_shape: Sequence[Implementation]) -> str:
    on_vectors = sum(name == "vector" for name in of_shape)
    if on_vectors in (0, len(of_shape)):
        return f"{of_shape[0]} always"
    return f"vector up to {MEASURED_ROWS[on_vectors - 1]} rows, matrix beyond"

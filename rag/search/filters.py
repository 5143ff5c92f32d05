"""Filters: which chunks may be found at all. They are applied before ranking."""

from datetime import date
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = Annotated[str, Field(min_length=1, max_length=512)]
Values = Value | Annotated[list[Value], Field(min_length=1, max_length=100)]


class DateRange(BaseModel):
    """Days from and to, both included; documents without a date are outside of every range."""

    model_config = ConfigDict(extra="forbid")

    start: date | None = Field(None, alias="from")
    end: date | None = Field(None, alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> "DateRange":
        if self.start and self.end and self.start > self.end:
            raise ValueError("'from' is after 'to'")
        return self


class Filters(BaseModel):
    """All that are given must hold."""

    model_config = ConfigDict(extra="forbid")

    source: Values | None = Field(None, description="document ids; what ends with '/' or '#' means all that begin so")
    tag: Values | None = Field(None, description="documents with any of these tags")
    date: DateRange | None = None

    def allowed(self, chunks: pa.Table) -> npt.NDArray[np.bool_] | None:
        """Return bool [num_chunks], which may be found; None for all.

        Args:
            chunks: with the columns `document`, `tags` and `date`.
        """
        found: list[npt.NDArray[np.bool_]] = []
        if self.source is not None:
            found.append(_any_source(chunks.column("document"), _list(self.source)))
        if self.tag is not None:
            found.append(_any_tag(chunks.column("tags").combine_chunks(), _list(self.tag)))
        if self.date is not None:
            found += _within(chunks.column("date"), self.date)
        return np.logical_and.reduce(found) if found else None


def _list(values: Values) -> list[str]:
    return [values] if isinstance(values, str) else values


def _any_source(documents: pa.ChunkedArray, sources: list[str]) -> npt.NDArray[np.bool_]:
    exact = [source for source in sources if not source.endswith(("/", "#"))]
    found = pc.is_in(documents, value_set=pa.array(exact, pa.string())).to_numpy()
    for folder in set(sources) - set(exact):
        found = found | pc.starts_with(documents, folder).to_numpy()
    return np.asarray(found, dtype=np.bool_)


def _any_tag(tags: pa.ListArray, wanted: list[str]) -> npt.NDArray[np.bool_]:
    hits = pc.is_in(tags.flatten(), value_set=pa.array(wanted, pa.string())).to_numpy(zero_copy_only=False)
    found = np.zeros(len(tags), dtype=np.bool_)
    found[pc.list_parent_indices(tags).to_numpy()[hits]] = True
    return found


def _within(dates: pa.ChunkedArray, wanted: DateRange) -> list[npt.NDArray[np.bool_]]:
    # ISO dates sort as texts do; no date is neither before nor after anything.
    bounds = [(pc.greater_equal, wanted.start), (pc.less_equal, wanted.end)]
    return [
        pc.fill_null(compare(dates, bound.isoformat()), False).to_numpy().astype(np.bool_)
        for compare, bound in bounds
        if bound is not None
    ]

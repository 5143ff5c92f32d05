"""Examining chats in parallel with Ray Data, in windows, so that memory stays bounded."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from llama_platform.data.checks.doctor import Finding
from llama_platform.data.config import DataConfig
from llama_platform.data.examine import Examined, RawRecord, examine_batch
from llama_platform.models.prompt import Message, PromptTemplate

WINDOW_BATCHES = 32


def examine_with_ray(
    batches: Iterable[list[RawRecord]], config: DataConfig, template: PromptTemplate
) -> Iterator[list[Examined]]:
    """Yield the results of `examine_batch` in the order of `batches`, computed by all CPUs of the cluster."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    apply = partial(_examine_table, config=config, template=template)
    remaining = iter(batches)
    while window := list(islice(remaining, WINDOW_BATCHES)):
        tables = [pa.table({"record": [json.dumps(asdict(record)) for record in batch]}) for batch in window]
        examined = ray.data.from_arrow(tables).map_batches(apply, batch_format="pyarrow", batch_size=None)
        for rows in examined.iter_batches(batch_format="pyarrow", batch_size=None):
            yield [_from_json(text) for text in rows["result"].to_pylist()]


def _examine_table(table: "pa.Table", config: DataConfig, template: PromptTemplate) -> "pa.Table":
    records = [RawRecord(**json.loads(text)) for text in table["record"].to_pylist()]
    return pa.table({"result": [_to_json(result) for result in examine_batch(records, config, template)]})


def _to_json(result: Examined) -> str:
    return json.dumps(asdict(result) | {"signature": result.signature.hex()})


def _from_json(text: str) -> Examined:
    values: dict[str, Any] = json.loads(text)
    values["findings"] = [Finding(**finding) for finding in values["findings"]]
    values["messages"] = values["messages"] and [Message(**message) for message in values["messages"]]
    values["signature"] = bytes.fromhex(values["signature"])
    return Examined(**values)

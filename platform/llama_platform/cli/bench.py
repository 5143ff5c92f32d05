"""`llama-platform bench`: how fast answers, prompts and adapters are on this machine."""

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table


def add_bench(cli: typer.Typer) -> None:
    """Add the command to `cli`."""

    @cli.command("bench")
    def bench(
        model: Annotated[str, typer.Option("--model", help="base: a folder, a hub name, s3://… or tiny")] = "tiny",
        dtype: Annotated[Literal["bfloat16", "float32"], typer.Option("--dtype")] = "bfloat16",
        weights: Annotated[Literal["base", "int8"], typer.Option("--weights", help="as engine.weights")] = "base",
        products: Annotated[Literal["auto", "vector", "matrix"], typer.Option("--products")] = "auto",
        threads: Annotated[int | None, typer.Option("--threads", min=1, help="all cores without it")] = None,
        minutes: Annotated[float, typer.Option("--minutes", min=0, help="no round begins after these")] = 1,
        as_json: Annotated[bool, typer.Option("--json", help="one JSON document instead of a table")] = False,
    ) -> None:
        """Measure the CPU engine here, beside what memory and processor allow; docs/engine.md says how to read it.

        On a GPU, where vLLM is the engine, `python -m jobs.gpu_check` measures.
        """
        import torch

        from llama_platform.inference.config import EngineConfig
        from llama_platform.inference.speed import measure_speed
        from llama_platform.inference.torch_engine.engine import TorchEngine
        from llama_platform.models.base_model import BaseConfig, load_template
        from llama_platform.processor import cores, cpu_name, instructions

        count = threads or cores()
        torch.set_num_threads(count)
        base = BaseConfig(model=model, dtype=dtype)
        config = EngineConfig(weights=weights, products=products, prefix_cache=False)
        console = Console(stderr=True)
        console.print(f"loading {model} …")
        engine = TorchEngine(base, load_template(base).tokenizer, count, config)
        try:
            report = measure_speed(engine, 60 * minutes, lambda text: console.print(f"{text} …"))
        finally:
            asyncio.run(engine.close())
        machine = {"cpu": cpu_name(), "threads": count, "instructions": instructions()}
        if as_json:
            speeds = [{**asdict(speed), "share": speed.share} for speed in report.speeds]
            print(json.dumps({"machine": machine, "base": model, **asdict(report), "speeds": speeds}, indent=1))
            return
        table = Table("", "reached", "limit", "share", "bound by", title=f"{model} on {machine['cpu']}")
        for speed in report.speeds:
            limit = "" if speed.limit is None else f"{speed.limit:,.0f}"
            share = "" if speed.share is None else f"{speed.share:.0%}"
            table.add_row(speed.name, f"{speed.value:,.1f} {speed.unit}", limit, share, speed.bound_by)
        Console(width=None if sys.stdout.isatty() else 110).print(table)
        read = "not measured" if report.read_gbytes_per_s is None else f"{report.read_gbytes_per_s:.1f} GB/s"
        print(f"{count} threads, {' '.join(instructions())}; medians of {report.rounds} rounds")
        print(f"each token reads {report.weight_bytes / 2**30:.2f} GiB of weights, at most at {read};")
        print(f"a matrix product reaches {report.matmul_gflops:,.0f} GFLOP/s")
        for name, words in report.products.items():
            print(f"products {name}: {words}")

"""Checks a machine with GPUs: what it is, how fast it is, and a training step with the shapes of Llama-2-7B.

    python -m jobs.gpu_check
    python -m jobs.gpu_check --tiny --set training.use_gpu=false     # on a machine without one

The step is that of `jobs/configs/llama2_7b_lora.yaml`, with one worker for each GPU, beside transformers and PEFT alone
on one of them. Where vLLM is installed it is started with the same shapes and loaded for a minute, under the platform's
engine and alone. Nothing is downloaded: the weights are random.
"""

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import job_config, job_parser
from llama_platform.cli.ray_cluster import connect
from llama_platform.errors import InputError, TrainingError
from llama_platform.logs import setup_logging
from llama_platform.pages import render_page
from llama_platform.training.config import FinetuneConfig

CONFIG = Path("jobs/configs/llama2_7b_lora.yaml")
PARTS = {"training": "deepspeed", "vllm": "vllm"}
"""The package that each needs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and return its exit code."""

    def command() -> None:
        parser = job_parser(__doc__)
        parser.set_defaults(config=CONFIG)
        parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the check itself")
        parser.add_argument("--only", choices=PARTS, help="the training step, or vLLM; default: what is installed")
        parser.add_argument("--report", type=Path, default=Path("gpu_check.json"), metavar="FILE")
        arguments = parser.parse_args(argv)
        config = job_config(FinetuneConfig, arguments)
        setup_logging()
        with connect():
            report = check(config, arguments.tiny, parts_of(arguments.only))
        arguments.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        page = arguments.report.with_suffix(".html")
        page.write_text(render_page(__package__, "page.html.j2", report=report), encoding="utf-8")
        Console(highlight=False).print(table(report))
        print(f"report: {arguments.report} and {page}")

    return run_command(command)


def parts_of(only: str | None) -> list[str]:
    """Return the parts that this machine has the packages for.

    Raises:
        InputError: the one that is asked for is not among them.
    """
    installed = [part for part in PARTS if importlib.util.find_spec(PARTS[part]) is not None]
    if only is not None and only not in installed:
        raise InputError(f"--only {only}: {PARTS[only]} is not installed here; see docs/gpu.md")
    return installed if only is None else [only]


def check(config: FinetuneConfig, tiny: bool, parts: Sequence[str]) -> dict[str, Any]:
    """Return the figures of some parts, by name.

    Args:
        config: its training and LoRA settings count; the number of workers is that of the GPUs.
        tiny: measure tiny shapes.
        parts: which of PARTS are measured.

    Raises:
        InputError: it asks for GPUs and Ray sees none.
        TrainingError: a training step failed.
    """
    import ray

    from jobs.gpu_check.machine import describe_machine, measure_rates
    from jobs.gpu_check.shapes import TINY
    from jobs.gpu_check.vllm_load import measure_shape
    from llama_platform.models.random_base import LLAMA_2_7B

    use_gpu = config.training.use_gpu
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if use_gpu and not gpus:
        raise InputError("Ray sees no GPU here; --tiny --set training.use_gpu=false tries the check itself")
    shape = TINY if tiny else LLAMA_2_7B
    one = {"num_gpus": 1 if use_gpu else 0, "num_cpus": config.training.cpus_per_worker}
    report: dict[str, Any] = {"machine": describe_machine()}
    report["rates"] = ray.get(ray.remote(**one)(measure_rates).remote(256 if tiny else 8192))
    if "training" in parts:
        report |= _training(config, shape, gpus if use_gpu else 1)
    if "vllm" in parts:
        load = (shape, 3.0, 4) if tiny else (shape, 60.0, 64)
        report["vllm"] = ray.get(ray.remote(**one)(measure_shape).remote(*load))
    return report | {
        part: f"left out: {PARTS[part]} is not installed here, or it is not asked for"
        for part in PARTS
        if part not in parts
    }


def _training(config: FinetuneConfig, shape: dict[str, int], workers: int) -> dict[str, Any]:
    """Return the figures of the training step, and of the same by transformers and PEFT alone."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from jobs.gpu_check.parts import train_ours
    from jobs.gpu_check.plain_peft import train_plainly

    use_gpu = config.training.use_gpu
    training = config.training.model_copy(update={"workers": workers})
    trainer = TorchTrainer(
        train_ours,
        train_loop_config={"config": config.model_copy(update={"training": training}), "shape": shape},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=training.workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": training.cpus_per_worker, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=RunConfig(name="gpu-check"),
    )
    try:
        ours = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        raise TrainingError(f"a training step failed here: {error}") from error
    one = {"num_gpus": 1 if use_gpu else 0, "num_cpus": training.cpus_per_worker}
    plain = ray.get(ray.remote(**one)(train_plainly).remote(config, shape))
    ratio = ours["tokens_per_s"] / plain["tokens_per_s"] / training.workers
    return {"training": ours, "training_plain": plain, "vs_plain": round(ratio, 3)}


def table(report: dict[str, Any]) -> Table:
    """Return the report as a table."""
    shown = Table("part", "figure", "value")
    for part, figures in report.items():
        rows = figures if isinstance(figures, dict) else {"": figures}
        for number, (name, value) in enumerate(rows.items()):
            shown.add_row("" if number else part, name, str(value))
    return shown


if __name__ == "__main__":
    sys.exit(main())

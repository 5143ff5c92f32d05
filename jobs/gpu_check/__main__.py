"""Checks a machine with GPUs: what it is, how fast it is, and a training step with the shapes of Llama-2-7B.

    python -m jobs.gpu_check
    python -m jobs.gpu_check --tiny --set training.use_gpu=false     # on a machine without one

The step is that of `jobs/configs/llama2_7b_lora.yaml`, with one worker for each GPU, beside transformers and PEFT alone
on one of them. Nothing is downloaded: the weights are random.
"""

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
from llama_platform.training.config import FinetuneConfig

CONFIG = Path("jobs/configs/llama2_7b_lora.yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and return its exit code."""

    def command() -> None:
        parser = job_parser(__doc__)
        parser.set_defaults(config=CONFIG)
        parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the check itself")
        parser.add_argument("--report", type=Path, default=Path("gpu_check.json"), metavar="FILE")
        arguments = parser.parse_args(argv)
        config = job_config(FinetuneConfig, arguments)
        setup_logging()
        with connect():
            report = check(config, arguments.tiny)
        arguments.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        Console(highlight=False).print(table(report))
        print(f"report: {arguments.report}")

    return run_command(command)


def check(config: FinetuneConfig, tiny: bool) -> dict[str, Any]:
    """Return the figures of every part, by its name.

    Args:
        config: its training and LoRA settings count; the number of workers is that of the GPUs.
        tiny: measure tiny shapes.

    Raises:
        InputError: it asks for GPUs and Ray sees none.
        TrainingError: a training step failed.
    """
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from jobs.gpu_check.parts import describe_machine, measure_rates, train_ours
    from jobs.gpu_check.plain_peft import train_plainly
    from jobs.gpu_check.shapes import TINY
    from llama_platform.models.random_base import LLAMA_2_7B

    use_gpu = config.training.use_gpu
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if use_gpu and not gpus:
        raise InputError("Ray sees no GPU here; --tiny --set training.use_gpu=false tries the check itself")
    shape = TINY if tiny else LLAMA_2_7B
    one = {"num_gpus": 1 if use_gpu else 0, "num_cpus": config.training.cpus_per_worker}
    report: dict[str, Any] = {"machine": describe_machine()}
    report["rates"] = ray.get(ray.remote(**one)(measure_rates).remote(1024 if tiny else 8192))
    training = config.training.model_copy(update={"workers": gpus if use_gpu else 1})
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
        report["training"] = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        raise TrainingError(f"a training step failed here: {error}") from error
    report["training_plain"] = ray.get(ray.remote(**one)(train_plainly).remote(config, shape))
    report["vs_plain"] = round(
        report["training"]["tokens_per_s"] / report["training_plain"]["tokens_per_s"] / training.workers, 3
    )
    return report


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

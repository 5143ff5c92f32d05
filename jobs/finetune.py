r"""Fine-tunes a LoRA adapter on a prepared dataset with Ray Train and DeepSpeed, and publishes it.

python -m jobs.finetune --config jobs/configs/tiny_lora_cpu.yaml
ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python -m jobs.finetune --config jobs/configs/llama2_7b_lora.yaml --set training.run_id=support-1
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from jobs.arguments import parse_job_args
from jobs.cluster import connect
from llama_platform.cli.exit_codes import run_command
from llama_platform.logs import setup_logging
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.metrics import StepMetrics


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(FinetuneConfig, __doc__ or "", argv)
        setup_logging()
        with connect():
            from llama_platform.training.trainer import finetune

            # A cluster that was joined may grow; one that was started here cannot.
            result = finetune(config, print_metrics, may_grow=bool(os.environ.get("RAY_ADDRESS")))
        print(f"run {result.run_id}: {result.steps} steps, loss {result.loss_first:.3f} → {result.loss_last:.3f}")
        print(f"adapter {result.adapter.name}@{result.adapter.version}  {result.uri}")

    return run_command(command)


def print_metrics(values: dict[str, Any]) -> None:
    """Print the progress line of a step, and the held-out loss where it was measured."""
    print(StepMetrics(**values).line(), flush=True)


if __name__ == "__main__":
    sys.exit(main())

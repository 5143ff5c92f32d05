r"""Fine-tunes a LoRA adapter on a prepared dataset with Ray Train and DeepSpeed, and publishes it.

python -m jobs.finetune --config jobs/configs/tiny_lora_cpu.yaml
ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python -m jobs.finetune --config jobs/configs/llama2_7b_lora.yaml --set training.run_id=support-1

SIGTERM or Ctrl-C commits a checkpoint and stops the run; submitted again with its run_id, it goes on at the next step.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import parse_job_args
from llama_platform.cli.ray_cluster import connect
from llama_platform.errors import StoppedError
from llama_platform.logs import setup_logging
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run.metrics import StepMetrics


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        config = parse_job_args(FinetuneConfig, __doc__, argv)
        setup_logging()
        with connect():
            from llama_platform.training.run.trainer import finetune

            # A cluster that was joined may grow; one that was started here cannot.
            may_grow = bool(os.environ.get("RAY_ADDRESS"))
            result = finetune(config, print_metrics, stop=stop_on_signal(), may_grow=may_grow)
        if result.adapter is None:
            raise StoppedError(
                f"run {result.run_id} stopped after step {result.steps}, its checkpoint is committed; "
                f"submit it again with --set training.run_id={result.run_id} to go on"
            )
        print(f"run {result.run_id}: {result.steps} steps, loss {result.loss_first:.3f} → {result.loss_last:.3f}")
        print(f"adapter {result.adapter.name}@{result.adapter.version}  {result.uri}")
        print(f"report {result.report}")

    return run_command(command)


def print_metrics(metrics: StepMetrics) -> None:
    """Print the progress line of a step."""
    print(metrics.line(), flush=True)


def stop_on_signal() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; a second one ends the process."""
    stop = threading.Event()

    def request(number: int, _: object) -> None:
        if stop.is_set():
            os._exit(130)  # whatever waits for the run, and there are threads that do
        print(f"{signal.Signals(number).name}: stopping after this step …", file=sys.stderr, flush=True)
        stop.set()

    # After ray.init, which sets its own; and SIGINT, too: the shell's background jobs start with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request)
    return stop


if __name__ == "__main__":
    sys.exit(main())

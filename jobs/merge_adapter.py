"""Writes an adapter and its base as one model, for tools that know no adapters, and measures the difference.

python -m jobs.merge_adapter --config jobs/configs/tiny_lora_cpu.yaml --adapter assistant@1 --output merged
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llama_platform.artifacts.location import repository_from
from llama_platform.artifacts.refs import resolve
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import job_config, job_parser
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_template
from llama_platform.models.lineage import check_lineage
from llama_platform.models.merge import merge_adapter
from llama_platform.training.config import FinetuneConfig

PROBES = ("Who are you?", "What can you do for me?", "Write one sentence about the sea.", "How do I boil an egg?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        parser = job_parser(__doc__)
        parser.add_argument("--adapter", help="NAME, NAME@ALIAS or NAME@VERSION; default: the newest of adapter.name")
        parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the model is written")
        parser.add_argument("--probe", action="append", metavar="QUESTION", help="measure on this; may be repeated")
        arguments = parser.parse_args(argv)
        config = job_config(FinetuneConfig, arguments)
        setup_logging()
        repository = repository_from(config.store, os.environ)
        if arguments.adapter is None:
            version = repository.latest("adapter", config.adapter.name)
        else:
            version = resolve(repository, "adapter", arguments.adapter)
        probes = tuple(arguments.probe or PROBES)
        fingerprint = load_template(config.base).fingerprint()
        check_lineage(version, repository.manifest(version), config.base, fingerprint)
        with repository.fetched(version) as folder:
            gap = merge_adapter(config.base, folder, arguments.output, config.base.dtype, probes)
        print(f"{version.name}@{version.version} merged into {config.base.model}: {arguments.output}")
        print(
            f"logits against base and adapter apart, over {gap.positions} positions: largest gap {gap.largest:.2e}, "
            f"mean {gap.mean:.2e}, same top token {100 * gap.same_top_token:.1f} %"
        )

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())

"""Turns chats into a dataset version: checks, repairs, counts and splits them, and reports every finding.

python -m jobs.prepare_data --config jobs/configs/tiny_lora_cpu.yaml --set 'data.sources=[chats.json]'
python -m jobs.prepare_data --config jobs/configs/tiny_lora_cpu.yaml --show chats.json:17
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from llama_platform.artifacts.location import in_rays_copy, repository_from
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.job_arguments import job_config, job_parser
from llama_platform.data.dataset import find_chat, find_dataset
from llama_platform.data.publish import publish_dataset, report_folder
from llama_platform.data.reading.sources import open_sources
from llama_platform.data.report.token_view import view_tokens
from llama_platform.data.report.values import DatasetReport
from llama_platform.logs import setup_logging
from llama_platform.models.base_model import load_template
from llama_platform.training.config import FinetuneConfig

SHOWN_PLACES = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        parser = job_parser(__doc__)
        parser.add_argument(
            "--show", metavar="CHAT", help="print a chat of the dataset as coloured tokens: its number or file:line"
        )
        arguments = parser.parse_args(argv)
        config = job_config(FinetuneConfig, arguments)
        setup_logging()
        repository = repository_from(config.store, os.environ)
        if arguments.show is not None:
            return show(repository, config, arguments.show)
        try:
            version, report = prepare_dataset(repository, config)
        finally:
            page = report_folder(config.data) / "report.html"
            if page.exists():
                print(f"report: {_kept(page, config.data.name, repository)}", file=sys.stderr)
        print(summary(report))
        print(f"dataset {version.name}@{version.version}  {repository.uri(version)}")
        return None

    return run_command(command)


def _kept(page: Path, name: str, repository: ArtifactRepository) -> str:
    """Return where a report can be read; one in Ray's temporary copy of a folder is put into the store."""
    if not in_rays_copy():
        return str(page)
    key = f"reports/{name}/{page.name}"
    repository.store.write(key, page.read_bytes())
    return f"{repository.store.root}/{key}"


def prepare_dataset(repository: ArtifactRepository, config: FinetuneConfig) -> tuple[ArtifactVersion, DatasetReport]:
    """Publish the dataset, examined here if it is small, else by Ray Data.

    Raises:
        InputError: the chats cannot be used.
    """
    data, base = config.data, config.base
    with open_sources(data.sources, data.exclude) as files:
        sizes = [file.path.stat().st_size for file in files if file.problem is None]
        if sum(sizes) <= data.ray_above_mib * 2**20:
            return publish_dataset(repository, data, base, files)
        from llama_platform.batch.examiner import examine_with_ray
        from llama_platform.cli.ray_cluster import connect

        with connect():
            examiner = partial(examine_with_ray, config=data, template=load_template(base))
            return publish_dataset(repository, data, base, files, examiner)


def show(repository: ArtifactRepository, config: FinetuneConfig, which: str) -> None:
    """Print a chat of the configured dataset, its trained tokens in green.

    Raises:
        NotFoundError: there is no such dataset.
        InputError: there is no such chat in it.
    """
    dataset = find_dataset(repository, config.data.name, config.training.dataset_version)
    with repository.fetched(dataset) as folder:
        source, messages = find_chat(folder, which)
    tokens = view_tokens(messages, load_template(config.base))
    trained = sum(token.count for token in tokens if token.trained)
    text = Text()
    for number, token in enumerate(tokens):
        # Two shades of each colour in turn show where one token ends and the next begins.
        colour = ("black on green3", "black on green1")[number % 2] if token.trained else ("", "on grey23")[number % 2]
        text.append(token.text, style=colour)
    console = Console(highlight=False)
    console.print(f"{source}: {sum(token.count for token in tokens)} tokens, {trained} of them in the loss (green)")
    console.print(text)


def summary(report: DatasetReport) -> str:
    """Return the report's counts as lines to read, with the first places of every finding."""
    chats, tokens = report.chats, report.tokens["train"]
    lines = [
        f"{chats.read} records, {chats.kept} chats: {chats.train} to train on, {chats.eval} held out",
        f"{tokens.all:,} training tokens, {tokens.trained:,} of them in the loss; longest chat {tokens.longest}",
    ]
    if report.held_out_answers_known:
        lines.append(f"{report.held_out_answers_known:.0%} of the held-out answers stand word for word in training")
    if chats.not_read_after is not None:
        lines.append(f"reading stopped after {chats.not_read_after} chats (data.max_chats)")
    for kind, found in report.findings.items():
        actions = ", ".join(f"{action} {count}" for action, count in found.actions.items())
        lines.append(f"{kind}: {found.count} ({actions})")
        lines += [f"  {place.where}: {place.problem}" for place in found.places[:SHOWN_PLACES]]
        if found.count > SHOWN_PLACES:
            lines.append(f"  … and {found.count - SHOWN_PLACES} more in the report")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

r"""Erases a document from an index: deletes every version that holds it.

python -m jobs.build_index --set mode=update --set 'delete=[contract.pdf]' --set promote=production
python -m jobs.erase_document contract.pdf --index docs --reason 'request of 3 May'

The first makes a version without it; versions that aliases point at are never deleted. The audit trail
says what was erased: `llama-platform audit export`. Copies in the caches of nodes go when these are full, or with
the nodes.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.cli.exit_codes import run_command
from llama_platform.config import Config, load_config
from llama_platform.logs import setup_logging
from rag.indexing.erase import erase_document


class EraseConfig(Config):
    """What the job takes from the environment and from `--set`."""

    store: StoreConfig = StoreConfig()
    """Where the index is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""

    def command() -> None:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("document", help="id of the document, as the index lists it")
        parser.add_argument("--index", default="docs", help="name of the index")
        parser.add_argument("--reason", required=True, help="why, for the audit trail")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as store.uri=…")
        arguments = parser.parse_args(argv)
        setup_logging()
        repository = repository_from(load_config(EraseConfig, None, arguments.set, os.environ).store, os.environ)
        erased = erase_document(repository, arguments.index, arguments.document, arguments.reason)
        numbers = ", ".join(str(version.version) for version in erased)
        print(f"{arguments.document} is erased: deleted versions {numbers} of index {arguments.index}")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())

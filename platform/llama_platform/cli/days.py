"""Days on the command line."""

from datetime import datetime
from typing import Annotated

import typer

DAY = ["%Y-%m-%d"]
First = Annotated[datetime | None, typer.Option("--from", formats=DAY, help="first day, of UTC")]
Last = Annotated[datetime | None, typer.Option("--to", formats=DAY, help="last day, of UTC")]

"""Parameters that the routes of administration share, with the form that the library checks, for their description."""

from typing import Annotated

from fastapi import Path
from pydantic import Field

NAME_FORM = "^[a-z0-9][a-z0-9._-]{0,62}$"
ALIAS_FORM = "^(?![0-9]+$)[a-z0-9][a-z0-9._-]{0,62}$"
VERSION_FORM = "[1-9][0-9]{0,8}"

# The library checks names, since they become keys; what stands here only describes them.
Name = Annotated[str, Path(max_length=63, json_schema_extra={"pattern": NAME_FORM})]
Alias = Annotated[str, Field(min_length=1, max_length=63, json_schema_extra={"pattern": ALIAS_FORM})]

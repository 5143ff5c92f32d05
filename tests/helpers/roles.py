"""What each role of a machine installs: the packages of its extras and all that these need."""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def requirements(*extras):
    """Return what pyproject.toml lists for every machine, and for those with some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in listed]


def closure(*extras):
    """Return the names of the installed distributions that a machine with some extras has."""
    found, waiting = set(), [(one, extra) for one in requirements(*extras) for extra in (*one.extras, "")]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for one in map(Requirement, lines):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                waiting += [(one, wanted) for wanted in (*one.extras, "")]
    return {name for name, _ in found}


def install(folder, *extras):
    """Make a folder that has, of what is installed here, only what a machine with some extras has."""
    for name in closure(*extras):
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            continue
        for part in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            there, link = Path(str(files[0].locate())).parents[len(files[0].parts) - 1] / part, folder / part
            if there.exists() and not link.exists():
                link.symlink_to(there)


def size_mb(*extras):
    """Return the megabytes of the files that a machine with some extras has installed."""
    size = 0
    for name in closure(*extras):
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            continue
        size += sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
    return size / 1e6

"""The lowest versions that pyproject.toml allows, as a constraints file for pip: `make floors`.

    python -m benchmarks.floors > floors.txt

Every dependency with a lower bound (`>=`) is pinned to it, those of the `coco` extra too; torch is not: its
floor has no CPU build for every Python, and CI installs it in a job of its own. All other packages keep their
version of constraints.txt, so that a failure is a floor's.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["constraints", "floors"]

ROOT = Path(__file__).parents[1]
NOT_LOWERED = ("torch",)


def floors(requirements: Iterable[str]) -> dict[str, str]:
    """Return the lower bound of each requirement that has one, by name.

    Example:
        >>> floors(["numpy>=1.26", "rich>=13,<16", "ruff"])
        {'numpy': '1.26', 'rich': '13'}
    """
    found = (re.match(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in found if match}


def constraints(pyproject: str, pins: str) -> str:
    """Return the lines of a constraints file: floors, and the pins of all other packages.

    Args:
        pyproject: text of pyproject.toml.
        pins: text of constraints.txt.
    """
    project = tomllib.loads(pyproject)["project"]
    lowest = floors([*project["dependencies"], *project["optional-dependencies"]["coco"]])
    lowest = {name: version for name, version in lowest.items() if name not in NOT_LOWERED}
    kept = [line for line in pins.splitlines() if line and line.split("==")[0] not in lowest]
    return "\n".join([*(f"{name}=={version}" for name, version in lowest.items()), *kept, ""])


def main() -> None:
    """Print the constraints file."""
    texts = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt"))
    sys.stdout.write(constraints(*texts))


if __name__ == "__main__":
    main()

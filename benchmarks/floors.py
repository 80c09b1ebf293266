"""The lowest versions that pyproject.toml allows, as a constraints file for pip: `make floors`.

    python -m benchmarks.floors [--torch] > constraints.txt

Every dependency with a lower bound (`>=`), also those of the `coco` extra, is pinned to it; torch only with
`--torch`, since its old builds are large and not on every index. All other packages keep their version of
constraints.txt, so that a failure is a floor's.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["constraints", "floors"]

ROOT = Path(__file__).parents[1]


def floors(requirements: Iterable[str]) -> dict[str, str]:
    """Return the lower bound of each requirement that has one, by name.

    Example:
        >>> floors(["numpy>=1.26", "rich>=13,<16", "ruff"])
        {'numpy': '1.26', 'rich': '13'}
    """
    found = (re.match(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in found if match}


def constraints(pyproject: str, pins: str, *, torch: bool = False) -> str:
    """Return the lines of a constraints file: floors, and the pins of all other packages.

    Args:
        pyproject: text of pyproject.toml.
        pins: text of constraints.txt.
        torch: whether torch gets its floor too.
    """
    project = tomllib.loads(pyproject)["project"]
    lowest = floors([*project["dependencies"], *project["optional-dependencies"]["coco"]])
    if not torch:
        del lowest["torch"]
    # Packages that only others need, such as click, are left to pip: their pins may not fit the floors.
    named = _names([*project["dependencies"], *project["optional-dependencies"]["test"]]) - lowest.keys()
    kept = [line for line in pins.splitlines() if line.split("==")[0] in named]
    return "\n".join([*(f"{name}=={version}" for name, version in lowest.items()), *kept, ""])


def _names(requirements: Iterable[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0] for requirement in requirements}


def main() -> None:
    """Print the constraints file."""
    parser = argparse.ArgumentParser(description="The lowest versions that pyproject.toml allows")
    parser.add_argument("--torch", action="store_true", help="lower torch too")
    options = parser.parse_args()
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt")]
    sys.stdout.write(constraints(texts[0], texts[1], torch=options.torch))


if __name__ == "__main__":
    main()

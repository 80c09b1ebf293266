"""constraints.txt pins what is installed, and `make floors` lowers what pyproject.toml allows."""

import re
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from benchmarks.floors import constraints, floors
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> set[str]:
    return {canonical(line.split("==")[0]) for line in text.splitlines() if "==" in line}


def installed(package: str, extra: str, found: set[str]) -> set[str]:
    """The names of everything that pip installs with a package."""
    for line in requires(package) or []:
        requirement = Requirement(line)
        name = canonical(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        found.add(name)
        installed(requirement.name, "", found)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need other packages")
@pytest.mark.parametrize("extra", ["", "test"])
def test_everything_that_the_demo_and_the_tests_install_is_pinned(extra: str) -> None:
    needed = installed("tagmask", extra, set())
    assert len(needed) > 30
    # Of CUDA builds of torch; which, its version and its index decide.
    needed = {name for name in needed if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert needed - pinned((ROOT / "constraints.txt").read_text(encoding="utf-8")) == set()


def test_floors_are_the_lower_bounds_and_all_else_is_as_pinned() -> None:
    pyproject = """
[project]
dependencies = ["numpy>=1.26", "torch>=2.4", "typer>=0.26.1,<1"]
[project.optional-dependencies]
coco = ["pycocotools>=2.0.8"]
test = ["pycocotools>=2.0.8", "pytest"]
"""
    pins = "# Pins.\nclick==8.5\nnumpy==2.4\npycocotools==2.0.11\npytest==9.2\ntorch==2.13\ntyper==0.29\n"
    lines = constraints(pyproject, pins).splitlines()
    assert lines == ["numpy==1.26", "typer==0.26.1", "pycocotools==2.0.8", "pytest==9.2", "torch==2.13"]
    assert "torch==2.4" in constraints(pyproject, pins, torch=True).splitlines()


def test_every_dependency_has_a_floor() -> None:
    own = [line for line in requires("tagmask") or [] if "extra" not in line]
    assert floors(own).keys() == {Requirement(line).name for line in own}

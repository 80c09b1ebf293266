"""Each promise of SECURITY.md names a test, and there is such a test."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def missing(page: str) -> list[str]:
    """The tests that a page names and that do not exist."""
    absent = []
    for path, function in NAMED.findall(page):
        file = ROOT / path
        names = set()
        if file.is_file():
            tree = ast.parse(file.read_text(encoding="utf-8"))
            names = {"", *(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))}
        if function not in names:
            absent.append(f"{path}::{function}")
    return absent


def test_every_promise_has_its_test() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert len(NAMED.findall(page)) > 15
    assert missing(page) == []
    rows = [line for line in page.partition("| promise |")[2].splitlines()[2:] if line.startswith("|")]
    assert all(NAMED.search(row) for row in rows)


def test_a_test_that_does_not_exist_is_found() -> None:
    page = "`tests/test_security_page.py::test_every_promise_has_its_test` `tests/x.py::test_a` `tests/x.py`"
    assert missing(page) == ["tests/x.py::test_a", "tests/x.py::"]

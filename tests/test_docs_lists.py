"""Tables of the docs that describe all methods, presets, data sets or marks name exactly those that exist."""

import re
from pathlib import Path

import pytest

from tagmask.bench.catalogue import all_tables
from tagmask.catalogue import method, method_names
from tagmask.data.catalogue import DATASETS
from tagmask.resolve import recipes
from tagmask.weak.config_files import shipped_configs

DOCS = Path(__file__).parents[1] / "docs"


def first_cells(page: str, head: str) -> list[str]:
    """The names in the first column of the table that begins with `head`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.count(head) == 1, head
    rows = text.split(head)[1].split("\n\n")[0].splitlines()[2:]
    return [
        name for row in rows for name in re.findall(r"`([^`]+)`|(\[[\w-]+\])", row.split(" | ")[0]) if name
    ]


def names(page: str, head: str) -> list[str]:
    return sorted(code or mark for code, mark in first_cells(page, head))


def test_dense_methods() -> None:
    own = {name.partition("/")[0] for name in recipes()}
    dense = [name for name in method_names("masks") if method(name, "masks").kind == "dense" and name in own]
    assert names("methods.md", "| method | attention of the last block |") == sorted(dense)


def test_taggers() -> None:
    assert names("tagging.md", "| method | how a word is scored |") == sorted(method_names("tags"))


def test_training_presets() -> None:
    assert names("training.md", "| name | what |") == sorted(shipped_configs())


def test_data_sets() -> None:
    assert names("data.md", "| name | gives | splits |") == sorted(DATASETS)


def test_marks_of_figures() -> None:
    sources = {cell.source for table in all_tables().values() for cell in table.cells}
    assert names("benchmarks.md", "| mark | it is |") == sorted(sources)


@pytest.mark.parametrize("head", ["| mark | it is |"])
def test_a_table_without_a_row_is_found(head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    (tmp_path / "benchmarks.md").write_text(text.replace("| [fig] |", "| fig |"), encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.DOCS", tmp_path)
    assert "[fig]" not in names("benchmarks.md", head)

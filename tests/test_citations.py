"""`tagmask methods --cite`: every method has its papers, whose facts are those of the sources' docstrings."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tagmask
from tagmask import catalogue
from tagmask.catalogue import method, method_names
from tagmask.citations import bibtex, cited_methods
from tagmask.cli.main import app
from tagmask.dense.rule import affinity
from tagmask.errors import InputError

SOURCES = Path(tagmask.__file__).parent
NAMES = sorted({*method_names("masks"), *method_names("tags")})
TRAINED = {"mctformer", "weakclip"}
NO_YEAR = {"piaa"}
"""Cited by the address of its program alone."""


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("{", "").replace("}", ""))


def docstrings() -> str:
    files = [file for folder in ("variants", "papers", "weak") for file in (SOURCES / folder).glob("*.py")]
    return plain(" ".join(ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "" for file in files))


def entries() -> dict[str, dict[str, str]]:
    """Fields by key, of all entries."""
    text = bibtex(cited_methods())
    found = re.findall(r"^@(\w+)\{([\w-]+),\n(.*?)^\}$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == text.count("@")
    return {
        key: {"kind": kind, **dict(re.findall(r"^  (\w+) += \{(.*)\},$", body, flags=re.MULTILINE))}
        for kind, key, body in found
    }


def test_every_method_has_its_papers_and_nothing_else_has() -> None:
    assert sorted(cited_methods()) == sorted({*NAMES, *TRAINED})
    assert all(cited_methods().values())


@pytest.mark.parametrize("key", entries())
def test_facts_are_those_of_the_docstrings(key: str) -> None:
    sources, entry = docstrings(), entries()[key]
    assert plain(entry["title"]) in sources
    if key in NO_YEAR:
        assert entry["howpublished"].removeprefix(r"\url{https://").rstrip("}") in sources
        return
    # A reference has the authors, the title in quotes, then venue and year.
    parts = sources.split(plain(entry["title"]))
    authors = [plain(author) for author in entry["author"].split(" and ")]
    wanted = f"{authors[0]} et al" if authors[-1] == "others" else ", ".join(authors)
    after = next(after[:100] for before, after in pairwise(parts) if before.rstrip('", .').endswith(wanted))
    assert entry["year"] in after
    venue = entry.get("booktitle") or entry.get("journal")
    assert entry["kind"] == ("article" if "journal" in entry else "inproceedings" if venue else "misc")
    assert venue is None or f"{venue} {entry['year']}" in after
    assert entry.get("eprint", "") in after


@pytest.mark.parametrize("name", NAMES)
def test_the_line_of_a_method_names_one_of_its_papers(name: str) -> None:
    source = " ".join(
        method(name, gives).source for gives in ("masks", "tags") if name in method_names(gives)
    )
    surnames = [
        entries()[key].get("author", "PIAA").split(" and ")[0].split()[-1] for key in cited_methods()[name]
    ]
    assert name == "sc-clip-near" or any(surname in source for surname in surnames)


def test_each_paper_is_printed_once() -> None:
    text = bibtex(["cls-seg", "tagclip"])
    assert re.findall(r"@\w+\{(\w+),", text) == ["lin2024tagclip", "lin2023clipes"]


def test_command() -> None:
    result = CliRunner().invoke(app, ["methods", "--cite", "cls-seg", "--cite", "gem"])
    assert result.exit_code == 0
    assert result.stdout == bibtex(["cls-seg", "gem"]) + "\n"
    wrong = CliRunner().invoke(app, ["methods", "--cite", "gam"])
    assert wrong.exit_code == 2
    assert "Unknown method 'gam'. Did you mean 'gem'?" in wrong.stderr


def test_unknown_and_registered_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_REGISTERED", {})
    with pytest.raises(InputError, match=r"Unknown method 'naclp'\. Did you mean 'naclip'\? See"):
        bibtex(["naclp"])
    tagmask.register_method("uncited", lambda x: affinity(x.v, x.v), source="my notes")
    with pytest.raises(InputError, match=r"'uncited' is registered by a plugin.*my notes"):
        bibtex(["uncited"])

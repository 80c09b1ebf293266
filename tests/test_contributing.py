"""CONTRIBUTING.md, CITATION.cff and .github/ name files, symbols, targets and commands that exist."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tagmask
from tagmask.citations import bibtex, cited_methods
from tagmask.cli.main import app

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEPS = [" ".join(step.split()) for step in re.findall(r"^\d\. (.*?)(?=^\d\. |^\n)", PAGE, re.M | re.S)]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def named_files(text: str) -> list[str]:
    """Paths in backticks; NAME is the contributor's."""
    return re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/.-]+)`", text)


def missing_files(text: str) -> list[str]:
    """Paths that do not exist: for a new file, its folder."""
    return [
        path
        for path in named_files(text)
        if not (ROOT / (path.rpartition("/")[0] if "NAME" in path else path)).exists()
    ]


def missing_symbols(step: str) -> list[str]:
    """Upper-case names of a step that stand in none of the existing files that it names."""
    files = [path for path in named_files(step) if "NAME" not in path and (ROOT / path).is_file()]
    sources = "".join((ROOT / path).read_text(encoding="utf-8") for path in files)
    symbols = re.findall(r"`(_?[A-Z][A-Z_]{3,})`", step)
    return [name for name in symbols if files and not re.search(rf"^{name}\b", sources, re.M)]


def make_targets(text: str) -> set[str]:
    """Of commands: at the start of a line, or in backticks."""
    return set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.M))


def test_steps_name_files_and_symbols_that_exist() -> None:
    assert len(STEPS) == 19
    assert len(named_files(PAGE)) >= 30
    assert missing_files(PAGE) == []
    assert [name for step in STEPS for name in missing_symbols(step)] == []


def test_what_does_not_exist_is_found() -> None:
    assert missing_files("`tests/none.py` `tests/NAME.py` `src/none/NAME.py`") == [
        "tests/none.py",
        "src/none/NAME.py",
    ]
    assert missing_symbols("`_MODULES` `_MODELS` in `src/tagmask/catalogue.py`") == ["_MODELS"]


def test_the_tests_that_the_recipes_run_exist() -> None:
    commands = re.findall(r"pytest -q (.*)", PAGE)
    assert len(commands) == 4
    for command in commands:
        for path in command.partition("#")[0].split():
            assert (ROOT / path).exists(), path


def test_links_and_their_headings_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", PAGE)
    assert any("#" in link for link in links)
    for link in links:
        file, _, anchor = link.partition("#")
        text = (ROOT / file).read_text(encoding="utf-8")
        headings = [
            re.sub(r"[^\w -]", "", line.strip("# ")).lower() for line in re.findall(r"^#+ .*", text, re.M)
        ]
        assert not anchor or anchor in [heading.replace(" ", "-") for heading in headings], link


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", ".github/pull_request_template.md"])
def test_make_targets_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = make_targets((ROOT / name).read_text(encoding="utf-8"))
    assert "test" in targets
    assert {t for t in targets if not re.search(rf"^{t}:", makefile, re.M)} == set()


def test_citation_file() -> None:
    cited: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert str(cited["version"]) == tagmask.__version__
    assert cited["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert not {"doi", "identifiers", "date-released"} & set(cited), "nothing is published yet"
    entries = re.sub(r"[{}]", "", bibtex(cited_methods()))
    for reference in cited["references"]:
        names = [f"{author['given-names']} {author['family-names']}" for author in reference["authors"]]
        facts = (
            reference["title"],
            " and ".join(names),
            reference["collection-title"],
            str(reference["year"]),
        )
        for fact in facts:
            assert fact in entries


@pytest.mark.parametrize(
    "form", [form for form in FORMS if form.name != "config.yml"], ids=lambda form: form.stem
)
def test_issue_forms(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(content)
    fields = [item for item in content["body"] if item["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert len({field["attributes"]["label"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
    commands = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    groups = {group.name for group in app.registered_groups}
    for name in re.findall(r"`tagmask ([a-z]+)", form.read_text(encoding="utf-8")):
        assert name in {*commands, *groups}, name


def test_there_are_forms_and_they_name_pages_that_exist() -> None:
    assert {form.stem for form in FORMS} == {"bug", "config", "number", "proposal"}
    pages = {
        page for form in FORMS for page in re.findall(r"\b(?:docs/)?[\w-]+\.md\b", form.read_text("utf-8"))
    }
    assert {page for page in pages - {"result.md"} if not (ROOT / page).is_file()} == set()


def test_workflow_covers_the_supported_versions_and_says_that_it_has_not_run() -> None:
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert "nverified" in text.partition("jobs:")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={matrix['python'][0]}"

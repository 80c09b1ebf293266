"""Words that outsiders must decode stay out of sources, docs and messages (docs/style.md)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted((ROOT / "src").rglob("*.py")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
]
PRIVATE = re.compile(
    r"[Ss]aid aloud|[Tt]aken up again|[Tt]old tags|\b[Ii]n flight|[Ss]econd look\b"
    r"|\blooks? (twice|again|once)\b|\blooked at (again|once|twice)|[Ii]n the running"
    r"|\bto be had\b|[Ll]earnt|\bis none\b|beside one another"
)


def private_words(text: str) -> list[str]:
    """Lines with words that only this project's authors would use."""
    return [line.strip() for line in text.splitlines() if PRIVATE.search(line)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_private_words(file: Path) -> None:
    if file.name == "style.md":
        return  # names them
    assert private_words(file.read_text(encoding="utf-8")) == []


def test_private_words_are_found() -> None:
    assert private_words("A word is looked at again.\nImages in flight.\nThe lookup is fast.") == [
        "A word is looked at again.",
        "Images in flight.",
    ]

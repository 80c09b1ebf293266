"""Whether the blocks of the pages are what their commands would make now; nothing is run for it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.figures.blocks import Block, Page, pictures_in
from benchmarks.figures.registry import FIGURES, Figure
from benchmarks.figures.stamps import weights_hash
from benchmarks.figures.work import Work

__all__ = ["Problem", "date_measured", "problems", "signed"]

_MODEL = re.compile(r"(?:the bundled model|an earlier bundled model,) `([0-9a-f]{12})`")
"""How a measured block tells its reader the weights."""
_DECIMAL = re.compile(r"^\|(?:.*\|)?\s*[-+±]?\d+\.\d[^|a-z]*\|", re.MULTILINE)
"""A row of a table with a cell that is a number with decimals."""


@dataclass(frozen=True)
class Problem:
    """Something stale, and what to do."""

    page: str
    figure: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.figure}: {self.text}"


def problems(pages: Sequence[Page], figures: Sequence[Figure] = FIGURES) -> list[Problem]:
    """Find all blocks that are stale, edited or missing, and tables and pictures without a block."""
    found = [problem for page in pages for problem in _of_page(page, figures)]
    placed = Counter(block.name for page in pages for block in page.blocks)
    for name, count in placed.items():
        if count > 1:
            found.append(Problem("all pages", name, f"stands {count} times. Keep one block."))
    for figure in figures:
        if figure.name not in placed:
            found.append(
                Problem(
                    "all pages",
                    figure.name,
                    f"has no place. Add '<!-- figure {figure.name} -->' and '<!-- /figure {figure.name} -->' "
                    "to a page.",
                )
            )
    return found


def _of_page(page: Page, figures: Sequence[Figure]) -> Iterator[Problem]:
    known = {figure.name: figure for figure in figures}
    for block in page.blocks:
        for text in _of_block(page, block, known):
            yield Problem(page.name, block.name, text)
    for link in pictures_in(page.outside):
        yield Problem(page.name, link, "is a picture outside a block, so nothing says what made it.")
    for row in _DECIMAL.finditer(page.outside):
        yield Problem(page.name, row[0], "is a row of figures outside a block, so nothing says what made it.")


def _of_block(page: Page, block: Block, known: Mapping[str, Figure]) -> Iterator[str]:
    if block.kind == "figure" and not block.stamps:
        yield f"it was not made yet. {_remake(block)}"
        return
    if block.kind != "reviewed" and block.stamps.get("content") != page.hash_of(block):
        yield (
            "the block or its picture was edited or exchanged by hand. "
            + (_remake(block) if block.kind == "figure" else f"If it is right, {_sign(block)}.")
        )
    if block.kind == "figure":
        yield from _of_figure(block, known)
    elif block.kind == "measured":
        yield from _of_measured(block)
    elif block.stamps.get("weights") != weights_hash():
        yield (
            "it quotes figures of an earlier bundled model. Read it again with the tables, mend it, and "
            f"{_sign(block)}."
        )


def _of_figure(block: Block, known: Mapping[str, Figure]) -> Iterator[str]:
    figure = known.get(block.name)
    if figure is None:
        yield "no program makes a figure of this name any more. Remove the block."
        return
    now = figure.stamps()
    changed = [name for name, value in now.items() if block.stamps.get(name) != value]
    if changed:
        yield f"it is stale: {', '.join(changed)} changed since it was made. {_remake(block)}"
    elif block.command != figure.command:
        yield f"its command is now `{figure.command}`. {_remake(block)}"
    elif figure.quick and figure.make(Work(0)).text != block.content:
        yield f"it is stale: the catalogue changed since it was made. {_remake(block)}"


def _of_measured(block: Block) -> Iterator[str]:
    weights = block.stamps.get("weights")
    shown = _MODEL.findall(block.content)
    if not block.command:
        yield "it has no command, as in '<!-- measured NAME: `COMMAND` weights=none -->'."
    if weights is None or (weights != "none" and shown != [weights]):
        yield (
            "its reader must see the weights: 'the bundled model `HASH`' in the text, weights=HASH in front; "
            "weights=none where none, or random ones, were used."
        )
    elif _dated(block) != block:
        yield f"the bundled model changed since it was measured, and the text does not say so. {_DATE}"


_DATE = "`make figures` corrects that."


def date_measured(page: Page) -> Page:
    """Return the page with "an earlier bundled model" in measured blocks that were made with one."""
    for block in page.blocks:
        if block.kind == "measured" and page.hash_of(block) == block.stamps.get("content"):
            dated = _dated(block)
            page = page if dated == block else page.with_block(dated)
    return page


def _dated(block: Block) -> Block:
    def phrase(match: re.Match[str]) -> str:
        earlier = match[1] != weights_hash()
        return f"{'an earlier bundled model,' if earlier else 'the bundled model'} `{match[1]}`"

    return replace(block, content=_MODEL.sub(phrase, block.content))


def signed(block: Block) -> Mapping[str, str]:
    """Return the stamps of a block whose content was edited by hand."""
    if block.kind == "reviewed":
        return {"weights": weights_hash()}
    shown = _MODEL.findall(block.content)
    return {"weights": shown[0] if shown else "none"}


def _remake(block: Block) -> str:
    return f"Run `make figures ONLY={block.name}`."


def _sign(block: Block) -> str:
    return f"run `python -m benchmarks.figures --sign {block.name}`"

"""Make the generated tables and pictures of the pages anew: `make figures`.

    python -m benchmarks.figures                  all of them
    python -m benchmarks.figures 'sclip-*' world  those with these names, with * and ?
    python -m benchmarks.figures --stale          those that are stale; also goes on after a stop
    python -m benchmarks.figures --check          say what is stale, make nothing
    python -m benchmarks.figures --sign NAME      a measured or reviewed block, edited by hand, is right

Each figure is written into its page as soon as it is made. A new one needs a place in a page: two lines,
`<!-- figure NAME -->` and `<!-- /figure NAME -->`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.figures.blocks import ROOT, Block, Page, pages
from benchmarks.figures.checks import date_measured, problems, signed
from benchmarks.figures.registry import FIGURES, Figure, by_name
from benchmarks.figures.report_pictures import BrowserMissingError
from benchmarks.figures.work import Work
from tagmask.files import write_bytes

__all__ = ["main", "make"]


def make(figure: Figure, work: Work, root: Path = ROOT) -> None:
    """Make one figure, and write its picture and its page.

    Args:
        figure: of the registry.
        work: shared by all figures of a run.
        root: of the repository.

    Raises:
        BrowserMissingError: a picture of a page, and no browser is installed.
    """
    made = figure.make(work)
    for name, data in made.pictures.items():
        write_bytes(root / "docs" / "images" / name, data)
    for page in _pages_of(figure.name, root):
        old = next(block for block in page.blocks if block.name == figure.name)
        block = Block("figure", figure.name, figure.command, figure.stamps(), made.text or old.content)
        write_bytes(page.path, page.with_block(block).text.encode())


def _pages_of(name: str, root: Path) -> list[Page]:
    return [page for page in pages(root) if any(block.name == name for block in page.blocks)]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="leave these out")
    parser.add_argument("--stale", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sign", action="append", default=[], metavar="NAME")
    options = parser.parse_args(arguments)
    for name in options.sign:
        _sign(name, root)
    if options.check or options.sign:
        return _report(root)
    stale = {problem.figure for problem in problems(pages(root))}
    chosen = [
        figure
        for figure in FIGURES
        if _matches(figure.name, options.names or ["*"])
        and not _matches(figure.name, options.skip)
        and (not options.stale or figure.name in stale)
    ]
    if options.names and not chosen and not options.stale:
        parser.error(f"no figure is called {' or '.join(options.names)}; they are {', '.join(by_name())}")
    failed = _make_all(chosen, root)
    for page in pages(root):
        if (dated := date_measured(page)) != page:
            write_bytes(page.path, dated.text.encode())
    return max(_report(root), failed)


def _make_all(chosen: Sequence[Figure], root: Path) -> int:
    work, failed = Work(), 0
    for number, figure in enumerate(chosen, start=1):
        start = time.monotonic()
        try:
            make(figure, work, root)
        except BrowserMissingError as error:
            print(f"{figure.name}: {error}", file=sys.stderr)
            failed = 1
            continue
        print(f"{number} of {len(chosen)}: {figure.name}, {time.monotonic() - start:.0f} s", flush=True)
    return failed


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _sign(name: str, root: Path) -> None:
    found = [(page, block) for page in pages(root) for block in page.blocks if block.name == name]
    if not found or found[0][1].kind == "figure":
        known = [block.name for page in pages(root) for block in page.blocks if block.kind != "figure"]
        raise SystemExit(f"No measured or reviewed block is called {name}. They are {', '.join(known)}.")
    for page, block in found:
        write_bytes(page.path, page.with_block(replace(block, stamps=signed(block))).text.encode())


def _report(root: Path) -> int:
    """Print what is stale; 1 if anything is."""
    found = problems(pages(root))
    for problem in found:
        print(problem, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

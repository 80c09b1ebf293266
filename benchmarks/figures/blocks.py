"""Blocks of a Markdown page that a program made, and the hashes in front of them.

    <!-- figure sclip-1: `tagmask bench miniature --table sclip-1`
         weights=edb84c04de94 scenes=0d1e2f3a4b5c settings=6d7e8f901a2b content=3c4d5e6f7081 -->
    ... the table, a picture, or both ...
    <!-- /figure sclip-1 -->

The first word is the kind of block:

    figure    made by `make figures` in minutes
    measured  made by a command that takes hours or measures the machine; its output is pasted by hand
    reviewed  text that quotes figures; written by hand, for the weights that it names
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["KINDS", "Block", "Page", "content_hash", "digest", "pages", "pictures_in"]

KINDS = ("figure", "measured", "reviewed")
ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"^<!-- (?P<kind>figure|measured|reviewed) (?P<name>[\w.-]+)(?:: `(?P<command>[^`]*)`)?"
    r"(?P<stamps>(?:\s+\w+=\w+)*)\s*-->\n(?P<content>.*?)^<!-- /(?P=kind) (?P=name) -->\n",
    re.DOTALL | re.MULTILINE,
)
_MARK = re.compile(r"^<!-- /?(?:figure|measured|reviewed)\b", re.MULTILINE)
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"")
_DIGITS = 12


def digest(data: bytes) -> str:
    """The first digits of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def pictures_in(text: str) -> list[str]:
    """Return the links of all pictures on this machine.

    Example:
        >>> pictures_in('![A cat](images/cat.png) <img src="dog.jpg" width="2"> ![](https://x.org/a.png)')
        ['images/cat.png', 'dog.jpg']
    """
    links = [markdown or html for markdown, html in _PICTURE.findall(text)]
    return [link for link in links if "://" not in link]


def content_hash(content: str, folder: Path) -> str:
    """Hash a block's text and the bytes of its pictures.

    Args:
        content: the text between the comments.
        folder: of the page, for its links.
    """
    parts = [content.encode()]
    for link in pictures_in(content):
        file = folder / link
        parts.append(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"absent")
    return digest(b"\0".join(parts))


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    kind: str
    name: str
    command: str
    stamps: Mapping[str, str]
    """Hashes of what the content depends on, by name; `content` is that of the content itself."""
    content: str
    """Whole lines."""

    def __str__(self) -> str:
        head = f"<!-- {self.kind} {self.name}" + (f": `{self.command}`" if self.command else "")
        stamps = " ".join(f"{name}={value}" for name, value in self.stamps.items())
        separator = "\n     " if self.command else " "
        head += f"{separator}{stamps} -->" if stamps else " -->"
        return f"{head}\n{self.content}<!-- /{self.kind} {self.name} -->\n"


@dataclass(frozen=True)
class Page:
    """A Markdown file with blocks."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> "Page":
        """Read a page.

        Raises:
            ValueError: a block without end, or inside another.
        """
        page = cls(path, path.read_text(encoding="utf-8"))
        if len(_MARK.findall(page.text)) != 2 * len(page.blocks):
            raise ValueError(
                f"{page.name} has a block that is malformed, has no end or is in another one. A block is "
                "'<!-- figure NAME -->', lines and '<!-- /figure NAME -->'."
            )
        return page

    @property
    def name(self) -> str:
        """The path inside the repository."""
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else self.path.name

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in order."""
        return tuple(
            Block(
                kind=match["kind"],
                name=match["name"],
                command=match["command"] or "",
                stamps=dict(re.findall(r"(\w+)=(\w+)", match["stamps"])),
                content=match["content"],
            )
            for match in _BLOCK.finditer(self.text)
        )

    def hash_of(self, block: Block) -> str:
        """Hash the content of a block, with its pictures as they are now."""
        return content_hash(block.content, self.path.parent)

    def with_block(self, block: Block) -> "Page":
        """Return the page with the block of the same name replaced, and its content hashed anew."""
        hashed = {} if block.kind == "reviewed" else {"content": self.hash_of(block)}
        signed = replace(block, stamps={**block.stamps, **hashed})
        text = _BLOCK.sub(lambda match: str(signed) if match["name"] == block.name else match[0], self.text)
        return replace(self, text=text)

    @property
    def outside(self) -> str:
        """The text outside all blocks."""
        return _BLOCK.sub("", self.text)


def pages(root: Path = ROOT) -> list[Page]:
    """Read all pages that may have blocks.

    Raises:
        ValueError: a malformed page.
    """
    files = [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        root / "benchmarks" / "README.md",
        root / "src" / "tagmask" / "miniature" / "MODEL_CARD.md",
    ]
    return [Page.read(file) for file in files]

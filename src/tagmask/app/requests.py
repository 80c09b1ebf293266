"""What several requests hold."""

from typing import Annotated, Final

from pydantic import Field

__all__ = ["LONGEST_TEXT", "Texts"]

LONGEST_TEXT: Final = 1000
"""Letters of a word; CLIP reads 77 tokens."""
_MOST: Final = 1000

Texts = Annotated[list[Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]], Field(max_length=_MOST)]
"""Words, each with all names of its class."""

"""What the letters of words tell: singular and plural, and general words that contain others.

Which words contain which is a list of ours, `words/general_words.txt`, a line of general words and what they
contain. A name that ends in another one, as in "office chair" and "chair", is one of its kinds too.
"""

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Final

from tagmask.settings.words import read_list

__all__ = ["contains", "function_words", "general_lines", "is_kind_of", "same_word"]

_IRREGULAR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "people": "person",
        "men": "man",
        "women": "woman",
        "children": "child",
        "mice": "mouse",
        "geese": "goose",
        "feet": "foot",
        "teeth": "tooth",
        "oxen": "ox",
        "leaves": "leaf",
        "knives": "knife",
        "shelves": "shelf",
        "wolves": "wolf",
        "calves": "calf",
        "scarves": "scarf",
        "loaves": "loaf",
    }
)
_NO_KINDS: Final = ("hot dog", "teddy bear", "guinea pig", "sea horse", "baseball bat", "computer mouse")
"""Names whose last word is another thing."""
_EVERYTHING: Final = "*"


def same_word(one: str, two: str) -> bool:
    """Whether two names are the same but for case, or singular and plural of the same English noun.

    Example:
        >>> same_word("cat", "Cats"), same_word("butterfly", "butterflies"), same_word("bus", "bush")
        (True, True, False)
    """
    one, two = one.casefold(), two.casefold()
    return one == two or one in _singulars(two) or two in _singulars(one)


def is_kind_of(name: str, general: str) -> bool:
    """Whether a name ends in another one, as its last word or words: "office chair" is a kind of "chair".

    Example:
        >>> is_kind_of("office chair", "chair"), is_kind_of("hot dog", "dog"), is_kind_of("armchair", "chair")
        (True, False, False)
    """
    name, general = name.casefold(), general.casefold()
    return name.endswith(f" {general}") and name not in _NO_KINDS


def contains(general: str, name: str, *, everything: bool = True) -> bool:
    """Whether our list says that a general word contains a name.

    Args:
        general: such as "animal".
        name: such as "cat"; also in the plural.
        everything: whether words such as "object" contain all others.

    Example:
        >>> contains("animals", "cat"), contains("cat", "animal"), contains("thing", "cat")
        (True, False, True)
    """
    members = _members(general)
    if members is None or same_word(general, name):
        return False
    if _EVERYTHING in members:
        return everything and _members(name) != members
    return any(same_word(name, member) for member in members)


@lru_cache(maxsize=10_000)
def _members(general: str) -> frozenset[str] | None:
    """All that our list says a word contains; None if it is no general word."""
    lines = [members for names, members in general_lines() if any(same_word(general, name) for name in names)]
    return frozenset(member for members in lines for member in members) if lines else None


@cache
def general_lines() -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Return the general words of each line of our list, and what they contain: ("*",) for everything."""
    pairs = (line.partition(": ") for line in read_list("general_words"))
    return tuple((tuple(names.split(", ")), tuple(members.split(", "))) for names, _, members in pairs)


@cache
def function_words() -> frozenset[str]:
    """Return words that name nothing in an image: articles, numbers, prepositions, colours."""
    return frozenset(word for line in read_list("function_words") for word in line.split(", "))


def _singulars(plural: str) -> Iterator[str]:
    """Possible singulars; some are no words."""
    head, space, last = plural.rpartition(" ")
    if last in _IRREGULAR:
        yield f"{head}{space}{_IRREGULAR[last]}"
    if plural.endswith("ies"):
        yield plural[:-3] + "y"
    if plural.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield plural[:-2]
    if plural.endswith("s") and not plural.endswith("ss"):
        yield plural[:-1]

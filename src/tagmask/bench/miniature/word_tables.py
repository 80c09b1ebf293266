"""Tables on the choice of words: the background list, and many words of which most are absent."""

from tagmask.bench.miniature.rows import MaskRow, Table, TagRow
from tagmask.bench.miniature.setups import MaskSetup, TagSetup

__all__ = ["MASK_WORD_TABLES", "TAG_WORD_TABLES"]

_BACKGROUNDS = {
    "own": "the ten backgrounds of this world",
    "auto": "automatic",
    "one": "one word, grass",
    "unknown": "COCO-Object's, mostly unknown to the weights",
}
_METHODS = {"SCLIP": MaskSetup("sclip"), "CLS-SEG": MaskSetup("cls-seg", tags="found")}

_BACKGROUND_NOTE = (
    "A good background names all that is behind the objects; a bad one names little of it, or in words that "
    "the weights never read. The automatic list is chosen among the words that they know; it knows nothing "
    "of the scenes."
)
_MANY_NOTE = (
    "200 words: the 24, and 176 names in a colour, as in red car. In each scene nearly all are absent, and "
    "many are close to what is there. A pixel of a red car is right as car or red car; as blue car it is "
    "wrong, unless a blue car is visible too."
)

MASK_WORD_TABLES: tuple[Table, ...] = (
    Table(
        "background-masks",
        "A good, a bad and the automatic background list: masks",
        "not published",
        tuple(
            MaskRow(f"{name}, {label}", MaskSetup(setup.method, tags=setup.tags, background=background))
            for name, setup in _METHODS.items()
            for background, label in _BACKGROUNDS.items()
        ),
        note=_BACKGROUND_NOTE,
    ),
    Table(
        "many-words-masks",
        "24 words and 200 words: masks",
        "not published",
        tuple(
            MaskRow(f"{name}, {count} words", MaskSetup(setup.method, tags=setup.tags, names=names))
            for name, setup in _METHODS.items()
            for names, count in (("one", 24), ("many", 200))
        ),
        note=_MANY_NOTE,
    ),
)

TAG_WORD_TABLES: tuple[Table, ...] = (
    Table(
        "background-tags",
        "A good, a bad and the automatic background list: tags of TagCLIP",
        "not published",
        tuple(TagRow(label, TagSetup(background=name)) for name, label in _BACKGROUNDS.items()),
        note=_BACKGROUND_NOTE,
    ),
    Table(
        "many-words-tags",
        "24 words and 200 words: tags of TagCLIP",
        "not published",
        (TagRow("24 words", TagSetup()), TagRow("200 words", TagSetup(names="many"))),
        note="200 words: the 24, and 176 names in a colour, as in red car. Both rows score the 24.",
    ),
)

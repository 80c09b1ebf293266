"""Generate captions of scenes: names, colours, counts, positions and backgrounds, in many wordings.

Captions are the only supervision in training. Each comes with its phrases ("a red car", "two fish", "grass"),
as a parser would return them: the word and the colour of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagmask.miniature.backgrounds import BACKGROUNDS
from tagmask.miniature.objects import CLASSES
from tagmask.miniature.scenes import CLASS_NAMES, COLOURS, Content
from tagmask.settings.words import read_list

__all__ = ["Caption", "Phrase", "caption_of", "known_words", "phrase_text", "training_texts"]


@dataclass(frozen=True, order=True)
class Phrase:
    """One object or background that a caption names."""

    word: int
    """A class of objects, or `len(CLASS_NAMES)` + a background."""
    colour: int | None = None
    """None if the caption does not name it."""


@dataclass(frozen=True)
class Caption:
    """A sentence and its phrases."""

    text: str
    phrases: tuple[Phrase, ...]


_OPENINGS = (
    "{}", "a photo of {}", "a picture of {}", "{}", "a drawing of {}", "there is {}", "we see {}",
    "an image of {}", "a scene with {}", "a picture that shows {}", "a photo of {}", "one can see {}",
)  # fmt: skip
_COUNTS = ("", "one", "two", "three", "four", "five")
_BACKGROUND_PHRASES = {
    "grass": ("on grass", "on the grass", "on a lawn", "in a field of grass"),
    "sand": ("on sand", "on the sand", "on a beach of sand"),
    "water": ("on water", "in the water", "on the sea", "by the water"),
    "snow": ("in the snow", "on snow", "on the snow"),
    "wood": ("on wood", "on a wood floor", "on planks of wood"),
    "gravel": ("on gravel", "on the gravel", "on pebbles of gravel"),
    "sky": ("in the sky", "in front of the sky", "under the sky", "against the sky"),
    "night": ("at night", "in the night", "under the night sky full of stars"),
    "brick": ("in front of a brick wall", "against brick", "by a wall of brick"),
    "forest": ("in the forest", "in front of a forest", "by a forest"),
}
_BACKGROUND_ONLY = {
    "brick": ("a brick wall", "brick"),
    "wood": ("wood", "a wood floor"),
    "night": ("night", "the night sky"),
}


def caption_of(contents: Sequence[Content], rng: np.random.Generator) -> Caption:
    """Generate one sentence about one scene, or about the scenes of a collage."""
    groups: dict[tuple[int, int], list[tuple[float, float]]] = {}
    grounds: list[int] = []
    for content in contents:
        for thing in content.things:
            groups.setdefault((thing.kind, thing.colour), []).append(thing.centre)
        grounds += [g for g in content.grounds if g not in grounds]
    names, phrases = [], []
    order = list(groups.items())
    rng.shuffle(order)
    for (kind, colour), centres in order:
        coloured = rng.random() < 0.65
        place = centres[0] if len(contents) == 1 and len(centres) == 1 and rng.random() < 0.3 else None
        names.append(_noun_phrase(kind, colour if coloured else None, len(centres), place, rng))
        phrases.append(Phrase(kind, colour if coloured else None))
    phrases += [Phrase(len(CLASS_NAMES) + g) for g in grounds]
    background = " and ".join(_pick(_BACKGROUND_PHRASES[_background(g)], rng) for g in grounds)
    if not names:
        alone = [_pick(_BACKGROUND_ONLY.get(_background(g), (_background(g),)), rng) for g in grounds]
        return Caption(_pick(_OPENINGS, rng).format(" and ".join(alone)), tuple(phrases))
    things = _joined(names)
    opening = _pick(_OPENINGS, rng).format(things)
    text = f"{background}, {things}" if rng.random() < 0.15 else f"{opening} {background}"
    return Caption(text, tuple(phrases))


def phrase_text(phrase: Phrase, rng: np.random.Generator) -> str:
    """Word a single phrase as in a caption."""
    objects = len(CLASS_NAMES)
    if phrase.word >= objects:
        name = _background(phrase.word - objects)
        bare = _pick((name, *_BACKGROUND_ONLY.get(name, ())), rng)
        text = bare
    else:
        names = (CLASSES[phrase.word].name,) * 3 + CLASSES[phrase.word].synonyms
        shade = "" if phrase.colour is None else f"{tuple(COLOURS)[phrase.colour]} "
        bare = shade + _pick(names, rng)
        text = _noun_phrase(phrase.word, phrase.colour, 1, None, rng)
    if rng.random() < 0.5:
        return _pick(_ensembles(), rng).replace("{}", bare)
    return _pick(_OPENINGS, rng).format(text)


def _ensembles() -> tuple[str, ...]:
    """Templates of the prompt ensembles that methods use with the trained model."""
    return read_list("sclip_templates80") + read_list("prompts_tag85")


def known_words() -> tuple[str, ...]:
    """Return every word of the training captions, in alphabetical order."""
    texts = [*_COUNTS, *COLOURS, "a an and at the in on of by left right top bottom middle corner"]
    texts += [t for group in (*_BACKGROUND_PHRASES.values(), *_BACKGROUND_ONLY.values()) for t in group]
    for kind in CLASSES:
        for name in (kind.name, *kind.synonyms):
            texts += [name, _plural(name)]
    texts += list(BACKGROUNDS)
    return tuple(sorted({word for text in texts for word in text.split()}))


def training_texts() -> tuple[str, ...]:
    """Return texts that contain every training word, including those of the prompt ensembles."""
    openings = [text.replace("{}", " ") for text in (*_OPENINGS, *_ensembles())]
    return (*openings, *known_words(), *(f"{word}," for word in known_words()))


def _noun_phrase(
    kind: int,
    colour: int | None,
    count: int,
    place: tuple[float, float] | None,
    rng: np.random.Generator,
) -> str:
    names = (CLASSES[kind].name,) * 3 + CLASSES[kind].synonyms
    noun = _pick(names, rng)
    shade = "" if colour is None else f"{tuple(COLOURS)[colour]} "
    if count > 1:
        return f"{_COUNTS[min(count, 5)]} {shade}{_plural(noun)}"
    words = f"{shade}{noun}"
    article = _pick(("a", "a", "a", "the", "one"), rng)
    if article == "a" and words[0] in "aeiou":
        article = "an"
    where = "" if place is None else f" {_place(place)}"
    return f"{article} {words}{where}"


def _place(centre: tuple[float, float]) -> str:
    x, y = centre
    side = "left" if x < 0.38 else "right" if x > 0.62 else ""
    height = "top" if y < 0.38 else "bottom" if y > 0.62 else ""
    if side and height:
        return f"in the {height} {side} corner"
    if side:
        return f"on the {side}"
    return f"at the {height}" if height else "in the middle"


def _plural(noun: str) -> str:
    if noun == "fish":
        return noun
    if noun.endswith(("ch", "sh", "s", "x")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _background(index: int) -> str:
    return tuple(BACKGROUNDS)[index]


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]

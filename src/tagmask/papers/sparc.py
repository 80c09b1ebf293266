"""SPARC: scores made comparable across images and words, and sentences about pairs that vouch for words.

    K. Miller, S. Mishra, A. Gangrade, K. Saenko, V. Saligrama.
    "SPARC: Score Prompting and Adaptive Fusion for Zero-Shot Multi-Label Recognition in Vision-Language
    Models", CVPR 2025.

    e    (n, c) cosines of n images with each word, in an ensemble of sentences
    a    (n, c) the same with one plain sentence
    m    (n, k) cosines with compound sentences, "a cat and a dog"

It needs nothing but these three. Each image's scores are brought to mean 0 and deviation 1, compounds by the
statistics of the plain singles; then each word's over all images; then a word's compounds, sorted, and its
single are projected on their first principal direction; the mean of that and of the single is the score.

So a score depends on the other images. `learn` takes from a set of them all that `apply` needs, and applied
to that same set it is the paper's method. Without compounds it is the paper's "normalise only".

Departures: a word all of whose scores are equal gets 0 and no division by 0. The authors' compounds, written
by a language model, were not published with the code: `pairs` makes plain ones from the words alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tagmask.checks import check_number
from tagmask.errors import InputError
from tagmask.method import Method, OwnWords
from tagmask.papers.preprocessing import InputSettings

__all__ = [
    "METHODS",
    "Cosines",
    "Reference",
    "SparcSettings",
    "apply",
    "fuse",
    "learn",
    "match",
    "normalised",
    "pairs",
]

Scores = Float[np.ndarray, "n c"]


@dataclass(frozen=True, kw_only=True)
class SparcSettings(InputSettings):
    """Every number of the method."""

    plain: str = "a photo of a {}."
    """The sentence of plain singles."""
    compounds: tuple[str, ...] | None = None
    """Whole sentences about several words; (): none; None: made from the words (`pairs`)."""
    neighbours: int = 4
    """Of sentences made from the words: so many others that each word is paired with."""
    fusion: float = 0.5
    """Weight of the fused score beside the single."""

    def __post_init__(self) -> None:
        InputSettings.__post_init__(self)
        check_number("fusion", self.fusion, 0, 1)
        check_number("neighbours", self.neighbours, 0, whole=True)
        if "{}" not in self.plain:
            raise InputError(f"plain is {self.plain!r}, which has no {{}} to put the word in")


@dataclass(frozen=True, eq=False)
class Cosines:
    """Of some images with everything that is asked. No logit scale."""

    ensemble: Float[np.ndarray, "n c"]
    plain: Float[np.ndarray, "n c"]
    compound: Float[np.ndarray, "n k"]


@dataclass(frozen=True, eq=False)
class Reference:
    """What a set of images says about scores, enough to score others by."""

    single_mean: Float[np.ndarray, " c"]
    single_sd: Float[np.ndarray, " c"]
    compound_mean: Float[np.ndarray, " k"]
    compound_sd: Float[np.ndarray, " k"]
    directions: tuple[Float[np.ndarray, "_"], ...]
    """Per word: weights of its sorted compounds, then of its single; they sum to 1 in absolute value."""


# -- Which sentences speak of which words ----------------------------------------------------------------

_IRREGULAR = (
    ("person", "people"),
    ("child", "children"),
    ("man", "men"),
    ("foot", "feet"),
    ("goose", "geese"),
    ("mouse", "mice"),
    ("die", "dice"),
    ("tooth", "teeth"),
    ("louse", "lice"),
    ("leaf", "leaves"),
    ("wolf", "wolves"),
    ("knife", "knives"),
    ("cactus", "cacti"),
    ("shelf", "shelves"),
    ("calf", "calves"),
)
_JOINED = (("potted plant", "pottedplant"), ("dining table", "diningtable"), ("tv monitor", "tvmonitor"))


def match(sentences: Sequence[str], names: Sequence[str]) -> Bool[np.ndarray, "k q"]:
    """Which sentence mentions which name, in the singular or the plural, as whole words.

    Longer names are looked for first and blotted out, so that "hot dog" is no dog.

    Example:
        >>> match(["Two hot dogs.", "mice and a dog"], ["dog", "hot dog", "mouse"]).astype(int).tolist()
        [[0, 1, 0], [1, 0, 1]]
    """
    found = np.zeros((len(sentences), len(names)), dtype=bool)
    order = sorted(range(len(names)), key=lambda i: -len(names[i]))
    for row, sentence in enumerate(sentences):
        text = f" {re.sub('[^a-z]+', ' ', sentence.lower()).strip()} "
        for apart, joined in _JOINED:
            if joined in names:
                text = text.replace(apart, joined)
        for i in order:
            for form in _forms(re.sub("[^a-z]+", " ", names[i].lower()).strip()):
                while f" {form} " in text:
                    found[row, i] = True
                    text = text.replace(f" {form} ", "  ", 1)
    return found


def _forms(name: str) -> list[str]:
    irregular = [name.replace(one, many) for one, many in _IRREGULAR if one in name]
    return [name, name.removesuffix("s"), f"{name}s", f"{name}es", *irregular]


def pairs(names: Sequence[str], plain: str, neighbours: int) -> tuple[str, ...]:
    """Each name with the next few of the list, as in "a photo of a cat and a dog.".

    Example:
        >>> pairs(["cat", "dog", "cow"], "a photo of a {}.", 1)
        ('a photo of a cat and a dog.', 'a photo of a dog and a cow.', 'a photo of a cow and a cat.')
    """
    reach = min(neighbours, max(0, (len(names) - 1) // 2) or int(len(names) == 2))
    both = [(i, (i + step) % len(names)) for step in range(1, reach + 1) for i in range(len(names))]
    once = dict.fromkeys(tuple(sorted(pair)) if 2 * reach >= len(names) else pair for pair in both)
    return tuple(plain.replace("{}", f"{names[i]} and a {names[j]}") for i, j in once)


# -- Scores ----------------------------------------------------------------------------------------------


def learn(found: Cosines, mentions: Bool[np.ndarray, "k c"]) -> Reference:
    """What the set of images says.

    Args:
        found: of every image of the set.
        mentions: which compound mentions which word.

    Raises:
        InputError: fewer than two images, or than two words: nothing to compare with.
    """
    images, words = found.ensemble.shape
    if images < 2 or words < 2:
        raise InputError(
            f"got {images} images and {words} words; sparc compares images with each other and words with "
            "each other: give two or more of both"
        )
    e, m = _per_image(found)
    single, compound = (x.mean(axis=0) for x in (e, m))
    single_sd, compound_sd = (x.std(axis=0, ddof=1) for x in (e, m))
    e, m = _scaled(e, single, single_sd), _scaled(m, compound, compound_sd)
    directions = tuple(_direction(_stacked(e[:, c], m[:, mentions[:, c]])) for c in range(words))
    return Reference(single, single_sd, compound, compound_sd, directions)


def apply(
    found: Cosines, mentions: Bool[np.ndarray, "k c"], reference: Reference, settings: SparcSettings
) -> Scores:
    """Scores of some images by what a set of them, these or others, has said."""
    e, m = normalised(found, reference)
    return settings.fusion * fuse(e, m, mentions, reference) + (1 - settings.fusion) * e


def normalised(found: Cosines, reference: Reference) -> tuple[Scores, Float[np.ndarray, "n k"]]:
    """Singles and compounds, by their image's statistics and then by the set's."""
    e, m = _per_image(found)
    return (
        _scaled(e, reference.single_mean, reference.single_sd),
        _scaled(m, reference.compound_mean, reference.compound_sd),
    )


def fuse(
    e: Scores, m: Float[np.ndarray, "n k"], mentions: Bool[np.ndarray, "k c"], reference: Reference
) -> Scores:
    """r: each word's sorted compounds and its single, along its direction; the single where it has none."""
    columns = [_stacked(e[:, c], m[:, mentions[:, c]]) @ d for c, d in enumerate(reference.directions)]
    return np.stack(columns, axis=1)


def _per_image(found: Cosines) -> tuple[Scores, Float[np.ndarray, "n k"]]:
    e, a, m = (x.astype(np.float64) for x in (found.ensemble, found.plain, found.compound))
    return _by(e, e), _by(m, a)


def _by(x: Float[np.ndarray, "n _"], of: Scores) -> Float[np.ndarray, "n _"]:
    """Rows of x by the mean and deviation of the same rows of `of`."""
    return _scaled(x, of.mean(axis=1, keepdims=True), of.std(axis=1, ddof=1, keepdims=True))


def _scaled(
    x: Float[np.ndarray, "n k"], mean: Float[np.ndarray, "..."], sd: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "n k"]:
    return np.asarray((x - mean) / np.where(sd > 0, sd, np.inf))


def _stacked(
    single: Float[np.ndarray, " n"], compounds: Float[np.ndarray, "n _"]
) -> Float[np.ndarray, "n _"]:
    """Z: an image's compounds ascending, then its single."""
    return np.concatenate([np.sort(compounds, axis=1), single[:, None]], axis=1)


def _direction(z: Float[np.ndarray, "n _"]) -> Float[np.ndarray, "_"]:
    """First principal direction, its mean not negative, its weights of absolute sum 1."""
    centred = z - z.mean(axis=0)
    first = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    first = first if first.mean() >= 0 else -first
    return np.asarray(first / np.abs(first).sum())


METHODS = (
    Method(
        name="sparc",
        kind="sparc",
        summary="scores standardised by image and by word over a set, fused with pairs of words",
        source="SPARC, Miller et al., CVPR 2025",
        settings=SparcSettings,
        own_words=OwnWords(),
        adapts=True,
    ),
)

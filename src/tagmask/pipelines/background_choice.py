"""`background="auto"`: background words chosen for a user's words, by facility location.

    candidates   names of COCO-Stuff and ADE20K, less those that are like one of the words
    chosen S     greedily; each adds most to the sum, over candidates c, of max_{s in S} cos(c, s)

So every candidate has a chosen one near it, and none of them competes for what a word means.
"""

import logging
from collections.abc import Sequence
from typing import Final, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.prompts import split_names, text_features
from tagmask.errors import InputError
from tagmask.settings.parse import is_automatic
from tagmask.settings.recipes import Recipe
from tagmask.settings.word_forms import contains, function_words, is_kind_of, same_word
from tagmask.settings.words import read_list

__all__ = [
    "CHOICE_TEMPLATES",
    "background_candidates",
    "choose_background",
    "facility_location",
    "with_chosen_background",
]

_LOG = logging.getLogger(__name__)
_Recipe = TypeVar("_Recipe", bound=Recipe)

CHOICE_TEMPLATES: Final = ("a photo of a {}.",)
"""One sentence per name instead of 80: to choose among names costs seconds then, not minutes."""
_SHOWN: Final = 6


def facility_location(cosines: Float[Tensor, "n n"], count: int) -> tuple[int, ...]:
    """Choose rows greedily so that every row is near a chosen one.

    Args:
        cosines: of each candidate with each other.
        count: how many to choose; all, in greedy order, if there are fewer candidates.

    Returns:
        Indices in the order of choice. Ties go to the first.

    Example:
        >>> facility_location(torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.1, 1.0]]), 2)
        (1, 2)
    """
    cosines = cosines.double()
    best = cosines.new_full((len(cosines),), -1.0)
    chosen: list[int] = []
    for _ in range(min(count, len(cosines))):
        covered = torch.maximum(best[:, None], cosines)
        sums = covered.sum(dim=0)
        sums[chosen] = -torch.inf
        index = int((sums == sums.max()).nonzero()[0])
        chosen.append(index)
        best = covered[:, index]
    return tuple(chosen)


def background_candidates(clip: Clip) -> tuple[str, ...]:
    """Return the names to choose from: COCO-Stuff's and ADE20K's.

    Weights that list the words they know (the bundled ones): only names of these words, then the file's own
    background words and all other words that it knows, but for plurals and those that name nothing ("the",
    "red").
    """
    names = read_list("coco_stuff_ade20k")
    known = clip.known_words
    if known is None:
        return names
    things = known - function_words()
    own = tuple(text for text in clip.background if known.issuperset(text.casefold().split()))
    of_lists = tuple(name for name in names if things.issuperset(name.split()))
    others = (name for name in sorted(things) if not _has_singular(name, things))
    return tuple(dict.fromkeys((*of_lists, *own, *others)))


def choose_background(
    clip: Clip, words: Sequence[str], *, count: int = 64, too_close: float = 0.90
) -> tuple[str, ...]:
    """Choose the background words for a user's words.

    Left out are names that are one of the words (also as singular or plural), contain one or are one of its
    kinds by `word_forms`, or have a cosine of `too_close` or more with one.

    Args:
        clip: the model whose text features decide; with `CHOICE_TEMPLATES`, cached on disk.
        words: class lines; all names of a class count.
        count: how many to choose at most.
        too_close: names with this cosine to a word, or a higher one, are left out.

    Returns:
        The names, the most representative first; the same for the same weights and words.

    Raises:
        InputError: no name is left, or a word is "background".
    """
    texts = split_names(words).texts
    if any(text.casefold() == "background" for text in texts):
        raise InputError("'background' is the name of label 0. Rename that word.")
    names = [name for name in background_candidates(clip) if not any(_related(name, text) for text in texts)]
    chosen: tuple[str, ...] = ()
    if names:
        features = text_features(clip, (*names, *texts), CHOICE_TEMPLATES).cpu()
        candidates, own = features[: len(names)], features[len(names) :]
        far = ((candidates @ own.T).amax(dim=1) < too_close).nonzero().flatten().tolist()
        kept = candidates[far]
        chosen = tuple(names[far[index]] for index in facility_location(kept @ kept.T, count))
    if not chosen:
        raise InputError(
            "No background word is left that is unlike your words. Give your own: -b wall -b sky "
            "(background=['wall', 'sky']), or none: --background none (background=[])."
        )
    return chosen


def with_chosen_background(clip: Clip, recipe: _Recipe, background: object) -> _Recipe:
    """Return the recipe with the background chosen for its words if `background` is "auto".

    Args:
        clip: the frozen model.
        recipe: resolved, with any background.
        background: as the user gave it.

    Raises:
        InputError: as for `choose_background`.
    """
    if not is_automatic(background):
        return recipe
    chosen = choose_background(clip, recipe.words)
    among = "" if clip.known_words is None else f" among those that {clip.name} knows"
    _LOG.info(
        "Background: %d words chosen%s: %s%s; --background none for none",
        len(chosen),
        among,
        ", ".join(chosen[:_SHOWN]),
        ", ..." if len(chosen) > _SHOWN else "",
    )
    return recipe.with_names(recipe.words, chosen)


def _has_singular(name: str, names: frozenset[str]) -> bool:
    return any(len(other) < len(name) and same_word(name, other) for other in names)


def _related(name: str, word: str) -> bool:
    pairs = ((name, word), (word, name))
    return same_word(name, word) or any(
        is_kind_of(one, two) or contains(one, two, everything=False) for one, two in pairs
    )

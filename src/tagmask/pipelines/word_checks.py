"""Check a user's words: which classes compete for the same pixels, and what to give instead.

    plural       two classes are singular and plural of a word         -> one class
    synonyms     the cosine of their text features is `same` or more   -> one class
    kind         a class is a kind of another: office chair, chair     -> one class
    contains     a general word contains a class: animal, cat          -> leave out the general word
    background   a background word has one of these relations          -> leave it out of the background

That a general word contains a name is decided by our list (`settings.word_forms`). A name that is not in it
belongs where the most similar name of the list belongs, if that has a cosine of `inside` or more with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.prompts import Names, TextQuery, merge_names, split_names, text_features
from tagmask.pipelines.background_choice import CHOICE_TEMPLATES
from tagmask.settings.word_forms import contains, general_lines, is_kind_of, same_word

__all__ = ["Finding", "WordCheck", "check_words"]


@dataclass(frozen=True)
class Finding:
    """Texts that compete for the same pixels."""

    kind: str
    """"plural", "synonyms", "kind", "contains" or "background"."""
    words: tuple[str, ...]
    """The names of two classes, the general one first; of "contains", the general class and all that it
    contains; of "background", a class and the background words that compete with it."""
    cosine: float | None
    """The highest of the first with another; None if it was not computed, or does not matter."""

    @property
    def text(self) -> str:
        """What is wrong, in a few words."""
        first, others = self.words[0], ", ".join(self.words[1:])
        known = "" if self.cosine is None else f" (cosine {self.cosine:.2f})"
        return {
            "plural": f"{first} and {others} are one word in singular and plural",
            "synonyms": f"{first} and {others} mean nearly the same{known}",
            "kind": f"{others} is a kind of {first}",
            "contains": f"{first} contains {others}",
            "background": f"{first} competes with the background {others}{known}",
        }[self.kind]

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.kind == "contains":
            return f"leave out {self.words[0]}, or name its other kinds instead"
        if self.kind == "background":
            others = " and ".join(self.words[1:])
            return f"leave {others} out of the background, or give --background auto"
        return f'write them as one class, "{", ".join(self.words)}"'


@dataclass(frozen=True, eq=False)
class WordCheck:
    """The findings on a list of words."""

    words: tuple[str, ...]
    """Class lines."""
    background: tuple[str, ...]
    """Background texts."""
    findings: tuple[Finding, ...]
    cosines: Float[Tensor, "c c"] | None
    """Of each class with each other, by their most similar names; None without text features."""
    to_background: Float[Tensor, "c b"] | None
    """Of each class with each background text."""

    @property
    def suggestion(self) -> tuple[str, ...]:
        """Class lines to give instead: classes that are one are joined, general words left out."""
        lines = {line.split(", ")[0]: line for line in self.words}
        left_out = {finding.words[0] for finding in self.findings if finding.kind == "contains"}
        for finding in self.findings:
            if finding.kind in ("plural", "synonyms", "kind") and not left_out & set(finding.words):
                joined = dict.fromkeys(name for word in finding.words for name in lines[word].split(", "))
                line = ", ".join(joined)
                lines = {
                    word: line if set(old.split(", ")) & joined.keys() else old for word, old in lines.items()
                }
        kept = (line for word, line in lines.items() if word not in left_out)
        return tuple(dict.fromkeys(kept)) or self.words


def check_words(
    clip: Clip,
    words: Sequence[str],
    background: Sequence[str],
    query: TextQuery | None,
    *,
    same: float = 0.95,
    inside: float = 0.90,
) -> WordCheck:
    """Check words and background.

    Args:
        clip: encodes the names of our list, if a general word and a name that is not listed are given.
        words: class lines.
        background: background texts.
        query: text features of all names, as they are compared with images; None: only rules about letters
            and the list apply.
        same: classes with this cosine, or a higher one, mean the same.
        inside: lowest cosine at which a name belongs where the most similar listed one does.
    """
    names = split_names(words)
    table = _cosines(names, background, query)
    known = [_is_known(clip, line) for line in (*words, *background)]
    listed = _listed_as(clip, names.texts, inside)
    lines = [line.split(", ") for line in words]
    count = len(lines)
    findings: list[Finding] = []
    contained: dict[int, list[int]] = {}
    groups = list(range(count))  # classes that are one have the same number
    for one, two in combinations(range(count), 2):
        cosine = float(table[one, two]) if table is not None and known[one] and known[two] else None
        kind, swapped = _relation(lines[one], lines[two], cosine, same, listed)
        first, second = (two, one) if swapped else (one, two)
        if kind == "contains":
            contained.setdefault(first, []).append(second)
        elif kind and groups[one] != groups[two]:
            groups = [groups[one] if group == groups[two] else group for group in groups]
            findings.append(Finding(kind, (names.classes[first], names.classes[second]), cosine))
    for general, members in contained.items():
        findings.append(Finding("contains", tuple(names.classes[each] for each in (general, *members)), None))
    for one, line in enumerate(lines):
        competing: dict[str, float | None] = {}
        for index, text in enumerate(background, count):
            cosine = float(table[one, index]) if table is not None and known[one] and known[index] else None
            if _relation(line, [text], cosine, same, listed, everything=False)[0]:
                competing[text] = cosine
        if competing:
            highest = max((cosine for cosine in competing.values() if cosine is not None), default=None)
            findings.append(Finding("background", (names.classes[one], *competing), highest))
    return WordCheck(
        tuple(words),
        tuple(background),
        tuple(findings),
        None if table is None else table[:, :count],
        None if table is None else table[:, count:],
    )


def _is_known(clip: Clip, line: str) -> bool:
    """Whether the weights were trained on the names: cosines of others mean nothing."""
    known = clip.known_words
    return known is None or known.issuperset(line.casefold().replace(", ", " ").split())


def _relation(
    one: Sequence[str],
    two: Sequence[str],
    cosine: float | None,
    same: float,
    listed: Mapping[str, str],
    *,
    everything: bool = True,
) -> tuple[str, bool]:
    """The kind of finding on two classes, given by their names; and whether the second is the general one."""
    pairs = [(a, b) for a in one for b in two]
    if any(same_word(a, b) for a, b in pairs):
        return "plural", False
    for swapped, ordered in ((False, pairs), (True, [(b, a) for a, b in pairs])):
        if any(is_kind_of(b, a) for a, b in ordered):
            return "kind", swapped
        if any(
            contains(a, name, everything=everything) for a, b in ordered for name in (b, listed.get(b, b))
        ):
            return "contains", swapped
    return ("synonyms" if cosine is not None and cosine >= same else ""), False


def _cosines(
    names: Names, background: Sequence[str], query: TextQuery | None
) -> Float[Tensor, "c cb"] | None:
    """Cosines of classes with classes, then with background texts; None if a text has no features."""
    features = {} if query is None else dict(zip(query.texts, query.features.float().cpu(), strict=True))
    texts = (*names.texts, *background)
    if not features.keys() >= set(texts):
        return None
    stacked = torch.stack([features[text] for text in texts])
    rows = merge_names(stacked[: len(names.texts)] @ stacked.T, names)
    classes = len(names.classes)
    owners = (*names.owners, *range(classes, classes + len(background)))
    return merge_names(rows.T, Names((*names.classes, *background), texts, owners)).T


def _listed_as(clip: Clip, texts: Sequence[str], inside: float) -> dict[str, str]:
    """For names that our list lacks, the most similar name in it; only if a general word is given too."""
    lines = [(general, members) for general, members in general_lines() if len(members) > 1]
    known = clip.known_words
    members = tuple(
        name
        for name in dict.fromkeys(name for _, group in lines for name in group)
        if known is None or known.issuperset(name.split())
    )
    general = [text for text in texts if any(same_word(text, name) for names, _ in lines for name in names)]
    others = [
        text for text in texts if text not in general and not any(same_word(text, name) for name in members)
    ]
    if not (general and others and members):
        return {}
    features = text_features(clip, (*others, *members), CHOICE_TEMPLATES).cpu()
    cosines, nearest = (features[: len(others)] @ features[len(others) :].T).max(dim=1)
    found = zip(others, cosines.tolist(), nearest.tolist(), strict=True)
    return {text: members[index] for text, cosine, index in found if cosine >= inside}

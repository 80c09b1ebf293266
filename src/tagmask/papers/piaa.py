"""PIAA: look at all images first, then tag each: words get the patches that these images really show.

    "PIAA", gradient-free adaptation of CLIP to unlabelled images for multi-label recognition, as its authors
    coded it (github.com/akang-wang/PIAA).

    X    patches, unit rows of width D              T    (q, e) texts, unit rows
    p    softmax(60 X·T), each patch's words        H    its entropy: low is sure
    μ    mean patch of each word                    Λ    shrunken precision of what is left
    W, b the adapter: g = X W + b, W = Λ μᵀ, b_c = ln(1/C) - μ_cᵀ Λ μ_c / 2

In the paper's order: a *bank* of the surest patches of each word; a Gaussian discriminant *fit* on it; one
*refinement*, which keeps the rows that the fit is sure of and fits again; *scores*. Nothing is trained: no
gradient, no label, no chance.

As coded, the refinement is a cliff. Its probabilities are rounded to exactly 1 for most rows, and a word
whose rows are not all rounded may then keep none of them: its mean falls back to its text, far from any patch
(`compat`). Here such a word keeps the mean of the first fit instead.

Departures: sums are formed in float64 and rounded once; the covariance is solved by Cholesky and not inverted
by singular values. Both programs' banks agree but for ties, where the earlier patch is kept here.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError
from tagmask.method import Method, OwnWords
from tagmask.papers.piaa_encoders import ENCODERS
from tagmask.papers.preprocessing import InputSettings
from tagmask.types import TextFeatures

__all__ = [
    "METHODS",
    "Adapter",
    "Bank",
    "Fitted",
    "Gaussians",
    "PiaaSettings",
    "adapt",
    "empty_bank",
    "fit",
    "grow",
    "patch_words",
    "refine_bank",
    "score",
]


@dataclass(frozen=True, kw_only=True)
class PiaaSettings(InputSettings):
    """Every number of the method; the defaults are those for PASCAL VOC."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("compat",)
    """Those that are True as published and False as corrected."""

    input: str = "centre"
    """"centre", "square" or "native"."""
    encoder: str = "sclip"
    """What patches are seen by: "sclip" or "itaclip"."""
    bank_size: int = 512
    """Patches kept a word."""
    bank_scale: float = 60.0
    """Factor of cosines in the softmax that entropies are taken of."""
    refine_scale: float = 100.0
    """Factor of the first fit's logits in the softmax that rows are kept by."""
    score_divisor: float = 500.0
    """Divisor of the adapter's logits in the softmax of each patch."""
    patch_scale: float = 200.0
    """Factor of each word's best patch in the final softmax."""
    class_scale: float = 80.0
    """Factor of the class token's cosines, in place of the logit scale."""
    class_weight: float = 0.1
    """Weight of the class token's score beside that of the patches."""
    compat: bool = False
    """As coded: a word that the refinement empties falls back to its text, not to its first mean."""

    def __post_init__(self) -> None:
        InputSettings.__post_init__(self)
        check_choice("encoder", self.encoder, tuple(ENCODERS))
        check_number("bank_size", self.bank_size, 1, whole=True)
        for name in ("bank_scale", "refine_scale", "patch_scale", "class_scale"):
            check_number(name, getattr(self, name), 0)
        check_number("score_divisor", self.score_divisor, 1e-6)
        check_number("class_weight", self.class_weight, 0, 1)


# -- Bank ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bank:
    """The surest patches of each word so far: words ascending, entropies ascending, then as they came."""

    features: Float[Tensor, "m e"]
    probabilities: Float[Tensor, "m q"]
    entropy: Float[Tensor, " m"]
    owners: Int[Tensor, " m"]
    """The word that each patch resembles most."""


def empty_bank(texts: TextFeatures) -> Bank:
    """A bank that nothing has come to yet."""
    return Bank(
        texts[:0].clone(), texts.new_zeros(0, len(texts)), texts.new_zeros(0), torch.zeros(0).to(texts).long()
    )


def grow(bank: Bank, patches: Float[Tensor, "p e"], texts: TextFeatures, settings: PiaaSettings) -> Bank:
    """The bank after some more patches have come by.

    What it holds in the end does not depend on how many patches come at a time, and memory does not grow with
    them: `bank_size` rows a word.

    Args:
        bank: what there was.
        patches: unit rows.
        texts: of the words, in the bank's order.
        settings: `bank_scale`, `bank_size`.
    """
    similar = patches @ texts.T
    p = torch.softmax(settings.bank_scale * similar, dim=-1)
    entropy = -(p * p.clamp_min(1e-10).log()).sum(dim=-1)
    owners = similar.argmax(dim=-1)
    useful = entropy < _worst(bank, len(texts), settings.bank_size)[owners]
    if not useful.any():
        return bank
    grown = Bank(
        torch.cat([bank.features, patches[useful]]),
        torch.cat([bank.probabilities, p[useful]]),
        torch.cat([bank.entropy, entropy[useful]]),
        torch.cat([bank.owners, owners[useful]]),
    )
    order = torch.argsort(grown.entropy, stable=True)
    order = order[torch.argsort(grown.owners[order], stable=True)]
    ordered = grown.owners[order]
    first = torch.searchsorted(ordered, torch.arange(len(texts), device=ordered.device))
    order = order[torch.arange(len(order), device=order.device) - first[ordered] < settings.bank_size]
    return Bank(*(part[order] for part in (grown.features, grown.probabilities, grown.entropy, grown.owners)))


def _worst(bank: Bank, words: int, size: int) -> Float[Tensor, " q"]:
    """The entropy that a patch must stay under to get into the bank."""
    worst = bank.entropy.new_full((words,), torch.inf)
    for word in (torch.bincount(bank.owners, minlength=words) >= size).nonzero().flatten():
        worst[word] = bank.entropy[bank.owners == word].max()
    return worst


# -- Fit -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is left of all images: a linear map from a patch to its words."""

    weight: Float[Tensor, "e q"]
    bias: Float[Tensor, " q"]

    def logits(self, patches: Float[Tensor, "*b e"]) -> Float[Tensor, "*b q"]:
        """Of each word: g = X W + b."""
        return patches @ self.weight + self.bias


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One Gaussian a word, all of one shape."""

    means: Float[Tensor, "q e"]
    adapter: Adapter


@dataclass(frozen=True, eq=False)
class Fitted:
    """An adapter, and what it had to go by."""

    adapter: Adapter
    seen: Int[Tensor, " q"]
    """Rows of each word in the bank; a word without any is known by its text alone."""
    kept: Int[Tensor, " q"]
    """Rows of each word that the refinement kept; a word without any is known by its fall-back."""


def fit(
    x: Float[Tensor, "m e"],
    p: Float[Tensor, "m q"],
    owners: Int[Tensor, " m"],
    fallback: Float[Tensor, "q e"],
) -> Gaussians:
    """Gaussian discriminant analysis of patches that belong to words by degrees.

    Args:
        x: unit rows.
        p: how much each row is of each word.
        owners: the word whose mean each row counts to.
        fallback: means of words without rows.

    Raises:
        InputError: fewer than two rows, or rows that are all their means.
    """
    if len(x) < 2:
        raise InputError(f"got {len(x)} patches to fit to; adapt to more images, or look for other words")
    x, p, fallback = x.double(), p.double(), fallback.double()
    own = torch.zeros_like(p).scatter_(1, owners[:, None], p.gather(1, owners[:, None]))
    total = own.sum(dim=0)[:, None]
    means = torch.where(total > 0, own.T @ x / total.clamp_min(1e-300), fallback)
    z = x - means[owners]
    z = z - z.mean(dim=0)
    scatter = z.T @ z  # (n - 1) Σ
    spread = scatter.trace() / (len(x) - 1)
    if spread < 1e-12:
        raise InputError(
            f"the {len(x)} patches to fit to are all alike; adapt to more images, or look for other words"
        )
    shrunk = scatter + spread * torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
    weight = x.shape[1] * torch.cholesky_solve(means.T, torch.linalg.cholesky(shrunk))
    prior = torch.tensor(len(means), dtype=means.dtype, device=means.device).log()
    bias = -prior - 0.5 * (means * weight.T).sum(dim=-1)
    # Contiguous, as it is when it has been in a file: products round differently over other strides.
    return Gaussians(means, Adapter(weight.float().contiguous(), bias.float()))


def refine_bank(bank: Bank, first: Adapter, settings: PiaaSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows of the bank the first fit is sure of, and what it takes them for.

    Per word, rows at or above the mean plus one standard deviation of that word's rows. Computed in float32,
    whose rounding to exactly 1 decides, as in the authors' program.

    Returns:
        `kept` (m,) of booleans, probabilities (m, q) and owners (m,) by the first fit.
    """
    logits = first.logits(bank.features)
    q, owners = torch.softmax(settings.refine_scale * logits, dim=-1), logits.argmax(dim=-1)
    sure = q.gather(1, owners[:, None])[:, 0]
    kept: Bool[Tensor, " m"] = torch.zeros_like(owners, dtype=torch.bool)
    for word in owners.unique():
        rows = owners == word
        if rows.sum() > 1:  # one row has no deviation, and is not kept
            kept |= rows & (sure >= sure[rows].mean() + sure[rows].std())
    return kept, q, owners


def adapt(bank: Bank, texts: TextFeatures, settings: PiaaSettings) -> Fitted:
    """The adapter of a bank: fitted, refined, fitted again.

    Raises:
        InputError: a bank of fewer than two patches; with `compat`, a refinement that keeps fewer than two.
    """
    words = len(texts)
    first = fit(bank.features, bank.probabilities, bank.owners, texts)
    kept, q, owners = refine_bank(bank, first.adapter, settings)
    last = first
    if settings.compat or int(kept.sum()) > 1:
        fallback = texts if settings.compat else first.means
        last = fit(bank.features[kept], q[kept], owners[kept], fallback)
    return Fitted(
        last.adapter,
        torch.bincount(bank.owners, minlength=words),
        torch.bincount(owners[kept], minlength=words),
    )


# -- Scores ----------------------------------------------------------------------------------------------


def patch_words(logits: Float[Tensor, "b p q"], settings: PiaaSettings) -> Float[Tensor, "b p q"]:
    """Each patch's words: softmax(g / 500). Logits are hundreds wide where the fit is sure."""
    return torch.softmax(logits / settings.score_divisor, dim=-1)


def score(
    patches: Float[Tensor, "b p e"],
    class_tokens: Float[Tensor, "b e"],
    texts: TextFeatures,
    adapter: Adapter,
    settings: PiaaSettings,
) -> Float[Tensor, "b q"]:
    """0.9 of what each word's best patch says, 0.1 of what the class token says; rows sum to 1.

    Args:
        patches: unit rows.
        class_tokens: unit rows of the unaltered tower.
        texts: in the adapter's order.
        adapter: from `adapt`.
        settings: the scales.
    """
    each = patch_words(adapter.logits(patches), settings)
    local = torch.softmax(settings.patch_scale * each.amax(dim=1), dim=-1)
    whole = torch.softmax(settings.class_scale * class_tokens @ texts.T, dim=-1)
    return (1 - settings.class_weight) * local + settings.class_weight * whole


METHODS = (
    Method(
        name="piaa",
        kind="piaa",
        summary="looks at all images first and learns what each word looks like there",
        source="PIAA, as coded by its authors",
        settings=PiaaSettings,
        # With VOC's factor the refinement empties words of small folders; with COCO's it never does.
        own_words=OwnWords(
            templates=("a photo of a {}",),
            settings={"input": "native", "refine_scale": 0.01},
        ),
        adapts=True,
    ),
)

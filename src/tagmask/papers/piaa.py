"""PIAA: adapt to all images first, then tag each: a classifier is fitted to the patches of these images.

    "PIAA", gradient-free adaptation of CLIP to unlabelled images for multi-label recognition, as its authors
    coded it (github.com/akang-wang/PIAA).

    X    patches, unit rows of width D              T    (q, e) texts, unit rows
    p    softmax(60 X·T), words of each patch       H    its entropy: low is confident
    μ    mean patch of each word                    Λ    shrunken precision of the residuals
    W, b the adapter: g = X W + b, W = Λ μᵀ, b_c = ln(1/C) - μ_cᵀ Λ μ_c / 2

In the paper's order: a *bank* of the most confident patches per word; a Gaussian discriminant *fit* to it; a
*refinement*, which keeps the rows that the fit is confident of and fits again; *scores*. There is no
training: no gradient, no label, no randomness.

As coded, the refinement is unstable. Its probabilities round to exactly 1 for most rows, and a word with rows
that do not may then keep none of them: its mean falls back to its text, far from any patch (`compat`). By
default such a word keeps the mean of the first fit instead.

Departures: sums are computed in float64 and rounded once; the covariance is solved by Cholesky instead of
inverted by SVD. Both programs' banks agree except for ties, where the earlier patch is kept here.
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
    """Settings of PIAA; the defaults are the authors' for PASCAL VOC."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("compat",)
    """Settings that are True with `as_="published"` and False with `as_="corrected"`."""

    input: str = "centre"
    """"centre", "square" or "native"."""
    encoder: str = "sclip"
    """Encoder of the patches: "sclip" or "itaclip"."""
    bank_size: int = 512
    """Patches kept per word."""
    bank_scale: float = 60.0
    """Factor of the cosines in the softmax whose entropy ranks the patches."""
    refine_scale: float = 100.0
    """Factor of the first fit's logits in the softmax that selects rows in the refinement."""
    score_divisor: float = 500.0
    """Divisor of the adapter's logits in each patch's softmax."""
    patch_scale: float = 200.0
    """Factor of each word's best patch in the final softmax."""
    class_scale: float = 80.0
    """Factor of the class token's cosines, in place of the logit scale."""
    class_weight: float = 0.1
    """Weight of the class token's score; the patches' score has weight 1 - this."""
    compat: bool = False
    """As coded: a word that loses all rows in the refinement falls back to its text, not its first mean."""

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
    """The most confident patches of each word so far, sorted by word, then entropy, then arrival."""

    features: Float[Tensor, "m e"]
    probabilities: Float[Tensor, "m q"]
    entropy: Float[Tensor, " m"]
    owners: Int[Tensor, " m"]
    """The word most similar to each patch."""


def empty_bank(texts: TextFeatures) -> Bank:
    """Return an empty bank."""
    return Bank(
        texts[:0].clone(), texts.new_zeros(0, len(texts)), texts.new_zeros(0), torch.zeros(0).to(texts).long()
    )


def grow(bank: Bank, patches: Float[Tensor, "p e"], texts: TextFeatures, settings: PiaaSettings) -> Bank:
    """Return the bank updated with more patches.

    The final bank does not depend on how the patches are split into calls, and memory is bounded: `bank_size`
    rows per word.

    Args:
        bank: the bank so far.
        patches: unit rows.
        texts: features of the words, in the bank's order.
        settings: `bank_scale`, `bank_size`.
    """
    similar = patches @ texts.T
    p = torch.softmax(settings.bank_scale * similar, dim=-1)
    entropy = -(p * p.clamp_min(1e-10).log()).sum(dim=-1)
    owners = similar.argmax(dim=-1)
    accepted = entropy < _entropy_limit(bank, len(texts), settings.bank_size)[owners]
    if not accepted.any():
        return bank
    grown = Bank(
        torch.cat([bank.features, patches[accepted]]),
        torch.cat([bank.probabilities, p[accepted]]),
        torch.cat([bank.entropy, entropy[accepted]]),
        torch.cat([bank.owners, owners[accepted]]),
    )
    order = torch.argsort(grown.entropy, stable=True)
    order = order[torch.argsort(grown.owners[order], stable=True)]
    ordered = grown.owners[order]
    first = torch.searchsorted(ordered, torch.arange(len(texts), device=ordered.device))
    order = order[torch.arange(len(order), device=order.device) - first[ordered] < settings.bank_size]
    return Bank(*(part[order] for part in (grown.features, grown.probabilities, grown.entropy, grown.owners)))


def _entropy_limit(bank: Bank, words: int, size: int) -> Float[Tensor, " q"]:
    """The entropy below which a patch of each word enters the bank."""
    limit = bank.entropy.new_full((words,), torch.inf)
    for word in (torch.bincount(bank.owners, minlength=words) >= size).nonzero().flatten():
        limit[word] = bank.entropy[bank.owners == word].max()
    return limit


# -- Fit -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Adapter:
    """Result of the adaptation: a linear map from a patch to the logits of the words."""

    weight: Float[Tensor, "e q"]
    bias: Float[Tensor, " q"]

    def logits(self, patches: Float[Tensor, "*b e"]) -> Float[Tensor, "*b q"]:
        """Return the logits of each word: g = X W + b."""
        return patches @ self.weight + self.bias


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One Gaussian per word, with a shared covariance."""

    means: Float[Tensor, "q e"]
    adapter: Adapter


@dataclass(frozen=True, eq=False)
class Fitted:
    """An adapter, and the number of rows it was fitted to."""

    adapter: Adapter
    seen: Int[Tensor, " q"]
    """Rows of each word in the bank; a word without rows has its text as mean."""
    kept: Int[Tensor, " q"]
    """Rows of each word that the refinement kept; a word without rows has its fallback as mean."""


def fit(
    x: Float[Tensor, "m e"],
    p: Float[Tensor, "m q"],
    owners: Int[Tensor, " m"],
    fallback: Float[Tensor, "q e"],
) -> Gaussians:
    """Fit a Gaussian discriminant to patches with soft assignments to words.

    Args:
        x: unit rows.
        p: probabilities of the words for each row.
        owners: the word whose mean each row contributes to, weighted by its probability.
        fallback: means of words without rows.

    Raises:
        InputError: fewer than two rows, or every row equals its word's mean.
    """
    if len(x) < 2:
        raise InputError(
            f"Got {len(x)} patches to fit to. Give 2 or more. Adapt to more images, or use other words."
        )
    x, p, fallback = x.double(), p.double(), fallback.double()
    weights = torch.zeros_like(p).scatter_(1, owners[:, None], p.gather(1, owners[:, None]))
    total = weights.sum(dim=0)[:, None]
    means = torch.where(total > 0, weights.T @ x / total.clamp_min(1e-300), fallback)
    z = x - means[owners]
    z = z - z.mean(dim=0)
    scatter = z.T @ z  # (n - 1) Σ
    spread = scatter.trace() / (len(x) - 1)
    if spread < 1e-12:
        raise InputError(
            f"The {len(x)} patches to fit to are all the same. Adapt to more images, or use other words."
        )
    shrunk = scatter + spread * torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
    weight = x.shape[1] * torch.cholesky_solve(means.T, torch.linalg.cholesky(shrunk))
    prior = torch.tensor(len(means), dtype=means.dtype, device=means.device).log()
    bias = -prior - 0.5 * (means * weight.T).sum(dim=-1)
    # Contiguous, as after loading from a file: products round differently with other strides.
    return Gaussians(means, Adapter(weight.float().contiguous(), bias.float()))


def refine_bank(bank: Bank, first: Adapter, settings: PiaaSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Select the rows of the bank that the first fit is confident of, and reassign them.

    Per word, these are the rows at or above the mean plus one standard deviation of that word's rows.
    Computed in float32, where rounding to exactly 1 decides, as in the authors' program.

    Returns:
        `kept` (m,) boolean, probabilities (m, q) and owners (m,) by the first fit.
    """
    logits = first.logits(bank.features)
    q, owners = torch.softmax(settings.refine_scale * logits, dim=-1), logits.argmax(dim=-1)
    confidence = q.gather(1, owners[:, None])[:, 0]
    kept: Bool[Tensor, " m"] = torch.zeros_like(owners, dtype=torch.bool)
    for word in owners.unique():
        rows = owners == word
        if rows.sum() > 1:  # the deviation of one row is undefined; it is dropped
            kept |= rows & (confidence >= confidence[rows].mean() + confidence[rows].std())
    return kept, q, owners


def adapt(bank: Bank, texts: TextFeatures, settings: PiaaSettings) -> Fitted:
    """Fit an adapter to a bank, refine the bank, and fit again.

    Raises:
        InputError: the bank, or with `compat` the refined bank, has fewer than two patches.
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
    """Return each patch's probabilities: softmax(g / 500). A confident fit's logits span hundreds."""
    return torch.softmax(logits / settings.score_divisor, dim=-1)


def score(
    patches: Float[Tensor, "b p e"],
    class_tokens: Float[Tensor, "b e"],
    texts: TextFeatures,
    adapter: Adapter,
    settings: PiaaSettings,
) -> Float[Tensor, "b q"]:
    """Return 0.9 of each word's best-patch score plus 0.1 of its class-token score; rows sum to 1.

    Args:
        patches: unit rows.
        class_tokens: unit rows from the unmodified tower.
        texts: in the adapter's order.
        adapter: from `adapt`.
        settings: the scales.
    """
    each = patch_words(adapter.logits(patches), settings)
    local = torch.softmax(settings.patch_scale * each.amax(dim=1), dim=-1)
    global_ = torch.softmax(settings.class_scale * class_tokens @ texts.T, dim=-1)
    return (1 - settings.class_weight) * local + settings.class_weight * global_


METHODS = (
    Method(
        name="piaa",
        kind="piaa",
        summary="fits a classifier of the words to the patches of all images, then tags each image",
        source="PIAA, as coded by its authors",
        settings=PiaaSettings,
        # VOC's factor drops all rows of some words in small folders; COCO's never does.
        own_words=OwnWords(
            templates=("a photo of a {}",),
            settings={"input": "native", "refine_scale": 0.01},
        ),
        adapts=True,
    ),
)

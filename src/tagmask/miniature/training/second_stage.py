"""Second stage of training the miniature CLIP: patches, as in a large CLIP.

Three things make the papers' effects appear. Patches are aligned with words on the value path and on the
correlative path of the last block, in turn. The ordinary output of some patches answers for the whole
caption, as in CLIP, whose last attention gathers global content. And objects are drawn with variations, some
images in grey, so that classes are known by their shape. Masks are never used.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from tagmask.miniature.captions import caption_of, phrase_text
from tagmask.miniature.training.alignment import (
    assignment_loss,
    caption_loss,
    entailed,
    phrase_loss,
    pooled_scores,
)
from tagmask.miniature.training.bank import Bank
from tagmask.miniature.training.batches import Batch, close_batch, greyed, mixed_batch
from tagmask.miniature.training.first_stage import IS_BACKGROUND, PHRASES, naming_accuracy, regions
from tagmask.miniature.training.progress import Gradients, Schedule, Terms
from tagmask.miniature.training.towers import GEOMETRY, Path, Towers

__all__ = ["SecondStage", "gradients", "losses"]


@dataclass(frozen=True, kw_only=True)
class SecondStage(Schedule):
    """Settings of the second stage."""

    minutes: float = 48.0
    learning_rate: float = 6e-4
    text_share: float = 0.0
    close_share: float = 0.35
    """Fraction of the parts that are close-ups as single images."""
    close_batch: int = 224
    """Batch size of those."""
    batch: int = 64
    """Batch size of the others; half of the images are collages of four close-ups."""
    isolated_layers: int = 8
    """In half of the parts, number of blocks in which the class token attends only to itself."""
    picks: int = 4
    """Number of patches of each image whose ordinary output answers for the caption."""
    picked_weight: float = 0.08
    """Weight of their loss. It trains the last block alone: through all blocks, patches lose their places."""
    object_shares: tuple[float, float] = (0.18, 0.27)
    """Fractions of a whole scene and of a close-up that are assigned to objects: the mean areas of objects
    in the images. Larger ones let words spread over the backgrounds."""
    bare_share: float = 0.15
    """Fraction of the parts in which patches are encoded without the last residual connection and MLP, as
    later methods do."""
    grey_share: float = 0.1
    """Fraction of the images in grey; their captions' colours are then not used."""


def losses(
    model: Towers,
    batch: Batch,
    settings: SecondStage,
    seed: tuple[int, ...],
    path: Path,
) -> dict[str, Tensor]:
    """Return each term of the objective, and the accuracy of naming one object per image.

    Patches are encoded by `path`. The text tower gets gradients unless its `text_share` is 0.
    """
    rng = np.random.default_rng((*seed, 1))
    per_region = [caption_of([content], rng).phrases for cells in batch.contents for content in cells]
    coloured = sorted({p for phrases in per_region for p in phrases if p.colour is not None})
    phrases = (*PHRASES, *coloured)
    pixels, is_grey = greyed(batch.pixels, settings.grey_share, rng)
    isolated = settings.isolated_layers if rng.random() < 0.5 else 0
    side = pixels.shape[-1] // GEOMETRY.patch
    margin = GEOMETRY.grid - side
    corner = (int(rng.integers(margin + 1)), int(rng.integers(margin + 1)))
    picks = torch.from_numpy(rng.choice(side * side, settings.picks, replace=False))
    with torch.autocast("cpu", torch.bfloat16):
        bare = bool(rng.random() < settings.bare_share)
        tokens = model.encode_image(pixels, isolated, corner, path, bare=bare, picks=picks)
        with nullcontext() if settings.text_share else torch.no_grad():
            captions = model.encode_text([c.text for c in batch.captions]).float()
            texts = model.encode_text([phrase_text(p, rng) for p in phrases]).float()
    is_plain = torch.tensor([p.colour is None for p in phrases])
    of_image = [
        m & (~is_grey[:, None] | is_plain) for m in entailed([c.phrases for c in batch.captions], phrases)
    ]
    of_cell = _per_region(is_grey, batch.collages)
    of_region = [m & (~of_cell[:, None] | is_plain) for m in entailed(per_region, phrases)]
    sets = [frozenset(c.phrases) for c in batch.captions]
    same = torch.tensor([[a == b for b in sets] for a in sets])
    scale = model.logit_scale.exp().clamp(max=100)
    local = model.patch_scale.exp().clamp(max=60)
    coloured_rows = (~is_grey).nonzero()[:, 0]

    def whole_loss(features: Tensor) -> Tensor:
        contrast = caption_loss(
            features[coloured_rows], captions[coloured_rows], scale, same[coloured_rows][:, coloured_rows]
        )
        return contrast + 0.5 * phrase_loss(features @ texts.T, scale, *of_image)

    pooled, assignment = [], []
    words = len(PHRASES)
    first = 0
    of_single = settings.object_shares[0 if batch.collages else 1]
    for region, object_share in zip(
        regions(tokens.patches, batch.collages), (of_single, settings.object_shares[1]), strict=False
    ):
        rows = slice(first, first + len(region))
        first += len(region)
        scores = region @ texts.T
        masks = [m[rows] for m in of_region]
        pooled.append(phrase_loss(pooled_scores(scores), local, *masks))
        said, ruled_out = (m[:, :words] for m in masks)
        assignment.append(
            assignment_loss(scores[..., :words], local, said, ruled_out, IS_BACKGROUND, object_share)
        )
    return {
        "whole": whole_loss(tokens.whole),
        "picked": torch.stack([whole_loss(tokens.picked[:, i]) for i in range(settings.picks)]).mean(),
        "pooled": torch.stack(pooled).mean(),
        "assignment": torch.stack(assignment).mean(),
        "accuracy": naming_accuracy(tokens.whole @ texts.T, of_image[0]),
    }


def gradients(model: Towers, bank: Bank, settings: SecondStage) -> Gradients:
    """Return the function that computes the gradients of one part of a batch."""

    def compute(step: int, done: float, part: int) -> tuple[Terms, list[Tensor | None]]:
        seed = (settings.seed, step, part)
        close = np.random.default_rng((*seed, 2)).random() < settings.close_share
        count = (settings.close_batch if close else settings.batch) // settings.parts
        batch = (close_batch if close else mixed_batch)(bank, count, (*seed, 3))
        path: Path = "value" if (step + part) % 2 else "correlative"
        terms = losses(model, batch, settings, seed, path)
        loss = (
            terms["whole"] + settings.picked_weight * terms["picked"] + terms["pooled"] + terms["assignment"]
        )
        grads: list[Tensor | None] = [*torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)]
        return {name: float(term.detach()) for name, term in terms.items()}, grads

    return compute


def _per_region(is_grey: Bool[Tensor, " b"], collages: int) -> Bool[Tensor, " r"]:
    """Repeat each collage's value for its four cells."""
    singles = len(is_grey) - collages
    return torch.cat([is_grey[:singles], is_grey[singles:].repeat_interleave(4)])

"""First stage of training the miniature CLIP: the class token, and the value path of the last block.

Half of the images are whole scenes, half are collages of four close-ups, each with its own caption; the first
half of the stage trains on close-ups alone. The losses are those of `alignment`; masks are never used.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tagmask.miniature.captions import Phrase, caption_of, phrase_text
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, COLOURS
from tagmask.miniature.training.alignment import (
    assignment_loss,
    caption_loss,
    entailed,
    phrase_loss,
    pooled_scores,
)
from tagmask.miniature.training.bank import Bank
from tagmask.miniature.training.batches import Batch, close_batch, mixed_batch
from tagmask.miniature.training.progress import Gradients, Schedule, Terms
from tagmask.miniature.training.towers import GEOMETRY, Towers

__all__ = [
    "IS_BACKGROUND",
    "PHRASES",
    "FirstStage",
    "gradients",
    "losses",
    "naming_accuracy",
    "pretrain_text_tower",
    "regions",
]

PHRASES = tuple(Phrase(word) for word in range(len(CLASS_NAMES) + len(BACKGROUND_NAMES)))
IS_BACKGROUND = torch.tensor([phrase.word >= len(CLASS_NAMES) for phrase in PHRASES])
"""Which of the phrases are backgrounds."""


@dataclass(frozen=True, kw_only=True)
class FirstStage(Schedule):
    """Settings of the first stage."""

    minutes: float = 130.0
    learning_rate: float = 1e-3
    close_share: float = 0.5
    """Fraction of the stage, at its start, that trains on close-ups as single images."""
    close_batch: int = 256
    """Batch size in that part of the stage."""
    batch: int = 64
    """Batch size after that; half of the images are collages of four close-ups."""
    text_steps: int = 250
    """Steps of the text tower alone, before the stage; the tower is then frozen until `close_share`."""
    isolated_layers: int = 8
    """In every other step, number of blocks in which the class token attends only to itself."""
    assignment_from: float = 0.05
    """Fraction of the stage after which the assignment loss starts."""


def pretrain_text_tower(model: Towers, bank: Bank, settings: FirstStage) -> float:
    """Train the text tower alone to distinguish texts; returns the last loss.

    Two wordings of a phrase, or of a caption, must be similar and differ from other phrases or captions, and
    a caption must be similar to its phrases. Without this step the features of all object names collapse to
    one vector, from which the image tower cannot learn.
    """
    rng = np.random.default_rng((settings.seed, 2))
    coloured = [Phrase(word, colour) for word in range(len(CLASS_NAMES)) for colour in range(len(COLOURS))]
    optimizer = torch.optim.AdamW(
        model.text.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), fused=True
    )
    scale = model.logit_scale.detach().exp()
    contents = (*bank.wide_contents, *bank.close_contents)
    value = math.nan
    for step in range(settings.text_steps):
        sampled = [contents[i] for i in rng.integers(len(contents), size=_TEXTS_PER_STEP)]
        captions, reworded = ([caption_of([content], rng) for content in sampled] for _ in range(2))
        sampled_phrases = [
            coloured[i] for i in rng.choice(len(coloured), size=_TEXTS_PER_STEP, replace=False)
        ]
        phrases = (*PHRASES, *sampled_phrases)
        identity = torch.eye(len(phrases), dtype=torch.bool)
        # "A car" may be red, so "a car" and "a red car" are neither positives nor negatives.
        _, exclusive = entailed([[phrase] for phrase in phrases], phrases)
        first, second = (model.encode_text([phrase_text(p, rng) for p in phrases]) for _ in range(2))
        first_captions, second_captions = (
            model.encode_text([c.text for c in each]) for each in (captions, reworded)
        )
        is_entailed, ruled_out = entailed([c.phrases for c in captions], phrases)
        same = torch.tensor([[a is b for b in sampled] for a in sampled])
        loss = phrase_loss(first @ second.T, scale, identity, exclusive & exclusive.T)
        loss = (
            loss
            + phrase_loss(first_captions @ first.T, scale, is_entailed, ruled_out)
            + caption_loss(first_captions, second_captions, scale, same)
        )
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (step + 1) / 40)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        value = float(loss.detach())
    return value


_TEXTS_PER_STEP = 64


def losses(
    model: Towers, batch: Batch, settings: FirstStage, seed: tuple[int, ...], *, train_text: bool
) -> dict[str, Tensor]:
    """Return each term of the objective, and the accuracy of naming one object per image.

    The text tower gets gradients only with `train_text`.
    """
    rng = np.random.default_rng((*seed, 1))
    per_region = [caption_of([content], rng).phrases for cells in batch.contents for content in cells]
    coloured = sorted({p for phrases in per_region for p in phrases if p.colour is not None})
    phrases = (*PHRASES, *coloured)
    isolated = settings.isolated_layers if rng.random() < 0.5 else 0
    margin = GEOMETRY.grid - batch.pixels.shape[-1] // GEOMETRY.patch
    corner = (int(rng.integers(margin + 1)), int(rng.integers(margin + 1)))
    with torch.autocast("cpu", torch.bfloat16):
        whole, _, patches = model.encode_image(batch.pixels, isolated, corner)
        with nullcontext() if train_text else torch.no_grad():
            captions = model.encode_text([c.text for c in batch.captions])
            texts = model.encode_text([phrase_text(p, rng) for p in phrases])
    whole, patches, captions, texts = whole.float(), patches.float(), captions.float(), texts.float()
    entailed_whole, ruled_out_whole = entailed([c.phrases for c in batch.captions], phrases)
    sets = [frozenset(c.phrases) for c in batch.captions]
    same = torch.tensor([[a == b for b in sets] for a in sets])
    scale = model.logit_scale.exp().clamp(max=100)
    local = model.patch_scale.exp().clamp(max=60)
    is_entailed, ruled_out = entailed(per_region, phrases)
    pooled, assignment = [], []
    words = len(PHRASES)
    first = 0
    for region in regions(patches, batch.collages):
        rows = slice(first, first + len(region))
        first += len(region)
        scores = region @ texts.T
        pooled.append(phrase_loss(pooled_scores(scores), local, is_entailed[rows], ruled_out[rows]))
        word_masks = is_entailed[rows, :words], ruled_out[rows, :words]
        assignment.append(assignment_loss(scores[..., :words], local, *word_masks, IS_BACKGROUND))
    cosines = whole @ texts.T
    return {
        "caption": caption_loss(whole, captions, scale, same),
        "phrase": phrase_loss(cosines, scale, entailed_whole, ruled_out_whole),
        "pooled": torch.stack(pooled).mean(),
        "assignment": torch.stack(assignment).mean(),
        "accuracy": naming_accuracy(cosines, entailed_whole),
    }


def naming_accuracy(cosines: Float[Tensor, "b t"], is_entailed: Bool[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Return how often the object with the highest cosine is in the caption, of images with objects.

    The first texts are the object words.
    """
    objects = len(CLASS_NAMES)
    best = cosines[:, :objects].argmax(dim=1, keepdim=True)
    return is_entailed.gather(1, best)[is_entailed[:, :objects].any(dim=1)].float().mean()


def regions(patches: Float[Tensor, "b p e"], collages: int) -> list[Float[Tensor, "_ _ e"]]:
    """Return the patches of single images, then of the cells of collages, in the order of the contents."""
    singles = len(patches) - collages
    if not collages:
        return [patches]
    half = GEOMETRY.grid // 2
    cells = patches[singles:].unflatten(1, (2, half, 2, half)).transpose(2, 3)
    return [patches[:singles], cells.reshape(4 * collages, half * half, -1)]


def gradients(model: Towers, bank: Bank, settings: FirstStage) -> Gradients:
    """Return the function that computes the gradients of one part of a batch."""

    def compute(step: int, done: float, part: int) -> tuple[Terms, list[Tensor | None]]:
        close = done < settings.close_share
        count = (settings.close_batch if close else settings.batch) // settings.parts
        seed = (settings.seed, step, part)
        batch = (close_batch if close else mixed_batch)(bank, count, seed)
        terms = losses(model, batch, settings, seed, train_text=not close)
        ramp = min(1.0, max(0.0, (done - settings.assignment_from) / 0.1))
        loss = terms["caption"] + 0.5 * terms["phrase"] + terms["pooled"] + ramp * terms["assignment"]
        grads: list[Tensor | None] = [*torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)]
        return {name: float(term.detach()) for name, term in terms.items()}, grads

    return compute

"""Train the miniature CLIP: `make miniature`.

Trains on images and captions and writes a file in OpenAI's key layout. Half of the images are whole scenes,
half are collages of four close-ups, each with its own caption. The losses are those of `alignment`; masks are
never used.
"""

import argparse
import dataclasses
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tagmask.clip.load import OPENAI_MEAN, OPENAI_STD
from tagmask.errors import InputError
from tagmask.files import atomic_open, write_bytes
from tagmask.miniature.captions import Phrase, caption_of, known_words, phrase_text
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, COLOURS
from tagmask.miniature.training.alignment import (
    assignment_loss,
    caption_loss,
    entailed,
    phrase_loss,
    pooled_scores,
)
from tagmask.miniature.training.bank import Bank, open_bank
from tagmask.miniature.training.batches import Batch, close_batch, mixed_batch
from tagmask.miniature.training.towers import ACTIVATION, GEOMETRY, Towers

__all__ = ["Settings", "train", "write_weights"]

logger = logging.getLogger("tagmask")

PHRASES = tuple(Phrase(word) for word in range(len(CLASS_NAMES) + len(BACKGROUND_NAMES)))
IS_BACKGROUND = torch.tensor([phrase.word >= len(CLASS_NAMES) for phrase in PHRASES])
"""Which of the phrases are backgrounds."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training run."""

    minutes: float = 130.0
    """CPU time of training, summed over cores, without drawing the images."""
    close_share: float = 0.5
    """Fraction of the run, at its start, that trains on close-ups as single images."""
    close_batch: int = 256
    """Batch size in that part of the run."""
    batch: int = 64
    """Batch size after that; half of the images are collages of four close-ups."""
    wide: int = 30_000
    """Number of whole scenes in the bank."""
    close: int = 90_000
    """Number of close-ups in the bank."""
    text_steps: int = 250
    """Steps of the text tower alone, before the run."""
    text_share: float = 0.2
    """Factor of the text tower's learning rate; it is frozen in the first part of the run."""
    learning_rate: float = 1e-3
    warmup: int = 150
    weight_decay: float = 0.05
    parts: int = 2
    """Parts of a batch, computed in parallel; each is contrasted only within itself."""
    isolated_layers: int = 8
    """In every other step, number of blocks in which the class token attends only to itself."""
    assignment_from: float = 0.05
    """Fraction of the run after which the assignment loss starts."""
    averaging: float = 0.998
    """Decay of the running mean of the weights, per step."""
    checkpoint_minutes: float = 5.0
    seed: int = 0


def pretrain_text_tower(model: Towers, bank: Bank, settings: Settings) -> float:
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
    model: Towers, batch: Batch, settings: Settings, seed: tuple[int, ...], *, train_text: bool
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
        whole, patches = model.encode_image(batch.pixels, isolated, corner)
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
    for region in _regions(patches, batch.collages):
        rows = slice(first, first + len(region))
        first += len(region)
        scores = region @ texts.T
        pooled.append(phrase_loss(pooled_scores(scores), local, is_entailed[rows], ruled_out[rows]))
        word_masks = is_entailed[rows, :words], ruled_out[rows, :words]
        assignment.append(assignment_loss(scores[..., :words], local, *word_masks, IS_BACKGROUND))
    cosines = whole @ texts.T
    objects = len(CLASS_NAMES)
    best = cosines[:, :objects].argmax(dim=1, keepdim=True)
    correct = entailed_whole.gather(1, best)[entailed_whole[:, :objects].any(dim=1)]
    return {
        "caption": caption_loss(whole, captions, scale, same),
        "phrase": phrase_loss(cosines, scale, entailed_whole, ruled_out_whole),
        "pooled": torch.stack(pooled).mean(),
        "assignment": torch.stack(assignment).mean(),
        "accuracy": correct.float().mean(),
    }


def _regions(patches: Float[Tensor, "b p e"], collages: int) -> list[Float[Tensor, "_ _ e"]]:
    """Patches of single images, then of the cells of collages, in the order of the contents."""
    singles = len(patches) - collages
    if not collages:
        return [patches]
    half = GEOMETRY.grid // 2
    cells = patches[singles:].unflatten(1, (2, half, 2, half)).transpose(2, 3)
    return [patches[:singles], cells.reshape(4 * collages, half * half, -1)]


@dataclass(eq=False)
class Progress:
    """State of a run, from which it can be resumed."""

    model: Towers
    optimizer: torch.optim.AdamW
    averaged: dict[str, Tensor]
    """Running mean of the weights; these are the weights written at the end."""
    step: int = 0
    seconds: float = 0.0
    """CPU time of training, over all restarts."""

    def save(self, path: Path, settings: Settings) -> None:
        """Write a checkpoint; it replaces an earlier one atomically."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "step": self.step,
            "seconds": self.seconds,
            "settings": dataclasses.asdict(settings),
        }
        with atomic_open(path) as stream:
            torch.save(state, stream)

    def restore(self, path: Path, settings: Settings) -> None:
        """Resume from a checkpoint.

        Raises:
            InputError: the checkpoint has other settings.
        """
        saved = torch.load(path, weights_only=True)
        if saved["settings"] != dataclasses.asdict(settings):
            raise InputError(
                f"{path} belongs to a run with {saved['settings']}. Give the same settings or another folder."
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averaged, self.step, self.seconds = saved["averaged"], saved["step"], saved["seconds"]


def begin(settings: Settings) -> Progress:
    """Create a run before its first step."""
    model = Towers()
    model.start(torch.Generator().manual_seed(settings.seed))
    text = {id(p) for p in model.text.parameters()}
    groups = [
        {
            "params": [
                p for p in model.parameters() if (id(p) in text) == is_text and (p.ndim > 1) == matrix
            ],
            "weight_decay": settings.weight_decay * matrix,
            "share": settings.text_share if is_text else 1.0,
        }
        for is_text in (False, True)
        for matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    return Progress(model, optimizer, {k: v.detach().clone() for k, v in model.state_dict().items()})


def train(folder: Path, settings: Settings) -> Progress:
    """Train for `settings.minutes`; resumes from the checkpoint in `folder` if there is one."""
    bank = open_bank(folder / "bank", settings.wide, settings.close)
    run = begin(settings)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.is_file():
        run.restore(checkpoint, settings)
        logger.info("Resuming at step %d, %.1f minutes.", run.step, run.seconds / 60)
    else:
        logger.info("Text tower pretrained: loss %.3f.", pretrain_text_tower(run.model, bank, settings))
        run.averaged = {name: tensor.detach().clone() for name, tensor in run.model.state_dict().items()}
    saved_at = time.monotonic()
    sums: dict[str, float] = {}
    while run.seconds < settings.minutes * 60:
        began = time.process_time()
        terms = advance(run, bank, settings)
        run.seconds += time.process_time() - began
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value / _LOG_STEPS
        if run.step % _LOG_STEPS == 0:
            values = ", ".join(f"{name} {value:.3f}" for name, value in sums.items())
            logger.info("Step %d, %.1f minutes: %s", run.step, run.seconds / 60, values)
            sums = {}
        if time.monotonic() - saved_at > settings.checkpoint_minutes * 60:
            saved_at = time.monotonic()
            run.save(checkpoint, settings)
    run.save(checkpoint, settings)
    return run


def advance(run: Progress, bank: Bank, settings: Settings) -> dict[str, float]:
    """Run one training step; returns the value of each term."""
    done = min(run.seconds / (settings.minutes * 60), 1.0)
    warm = min(1.0, (run.step + 1) / settings.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = group["share"] * (
            settings.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        )

    def compute(part: int) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        torch.set_num_threads(1)  # per thread: parallelism comes from the parts
        return _gradients(run, bank, settings, done, part)

    # Threads suffice, since torch releases the GIL. One part per core is faster than two cores that share
    # every small matrix product.
    with ThreadPoolExecutor(settings.parts) as pool:
        results = list(pool.map(compute, range(settings.parts)))
    for p, *grads in zip(run.model.parameters(), *(grads for _, grads in results), strict=True):
        present = [g for g in grads if g is not None]
        p.grad = torch.stack(present).sum(dim=0).div_(settings.parts) if present else None
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    share = 1 - min(settings.averaging, run.step / (10 + run.step))
    with torch.no_grad():
        for name, now in run.model.state_dict().items():
            run.averaged[name].lerp_(now, share)
    first = results[0][0]
    return {name: sum(float(terms[name]) for terms, _ in results) / settings.parts for name in first}


def _gradients(
    run: Progress, bank: Bank, settings: Settings, done: float, part: int
) -> tuple[dict[str, Tensor], list[Tensor | None]]:
    """Compute the terms and the gradient of every parameter for one part of a batch."""
    close = done < settings.close_share
    count = (settings.close_batch if close else settings.batch) // settings.parts
    seed = (settings.seed, run.step, part)
    batch = (close_batch if close else mixed_batch)(bank, count, seed)
    terms = losses(run.model, batch, settings, seed, train_text=not close)
    ramp = min(1.0, max(0.0, (done - settings.assignment_from) / 0.1))
    loss = terms["caption"] + 0.5 * terms["phrase"] + terms["pooled"] + ramp * terms["assignment"]
    parameters = list(run.model.parameters())
    grads: list[Tensor | None] = [*torch.autograd.grad(loss, parameters, allow_unused=True)]
    return {name: term.detach() for name, term in terms.items()}, grads


def write_weights(run: Progress, out: Path) -> None:
    """Write the averaged weights in float16, with the metadata that `tagmask.load` reads."""
    model = Towers()
    model.load_state_dict(run.averaged)
    metadata = {
        "activation": ACTIVATION,
        "mean": ", ".join(map(str, OPENAI_MEAN)),
        "std": ", ".join(map(str, OPENAI_STD)),
        "words": "\n".join(known_words()),
        "background": "\n".join(BACKGROUND_NAMES),
    }
    half = {name: tensor.half().contiguous() for name, tensor in model.tensors().items()}
    write_bytes(out, safetensors.torch.save(half, metadata))


_LOG_STEPS = 50


def main() -> None:
    """Train from the command line and write the weights."""
    parser = argparse.ArgumentParser(description="Train the miniature CLIP.")
    parser.add_argument("folder", type=Path, help="folder of the drawn images and the checkpoint")
    parser.add_argument("out", type=Path, help="weights file to write")
    parser.add_argument("--minutes", type=float, default=Settings.minutes)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = train(arguments.folder, Settings(minutes=arguments.minutes))
    write_weights(run, arguments.out)


if __name__ == "__main__":
    main()

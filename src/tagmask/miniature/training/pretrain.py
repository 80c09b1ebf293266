"""Train the miniature CLIP: `make miniature`.

Pictures and captions in, a file in OpenAI's key layout out. Half of the pictures are whole scenes, half are
collages of four near views, each with a caption of its own (a crop and its caption, four times). The losses
are those of `alignment`; no mask is ever read.
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
    caption_loss,
    entailed,
    everything_loss,
    phrase_loss,
    pooled_scores,
)
from tagmask.miniature.training.bank import Bank, open_bank
from tagmask.miniature.training.batches import Batch, mixed_batch, near_batch
from tagmask.miniature.training.towers import ACTIVATION, GEOMETRY, Towers

__all__ = ["Settings", "train", "write_weights"]

logger = logging.getLogger("tagmask")

PHRASES = tuple(Phrase(word) for word in range(len(CLASS_NAMES) + len(BACKGROUND_NAMES)))
BEHIND = torch.tensor([phrase.word >= len(CLASS_NAMES) for phrase in PHRASES])
"""Which of these are backgrounds."""


@dataclass(frozen=True)
class Settings:
    """One training run."""

    minutes: float = 130.0
    """Of processor time spent training, all cores together; the pictures' drawing is not counted."""
    near: float = 0.5
    """Share of the run that shows near views alone, each a picture of its own."""
    near_batch: int = 256
    """Near views a step."""
    batch: int = 64
    """Pictures a step after that, half of them collages of four near views."""
    wide: int = 30_000
    """Whole scenes drawn ahead."""
    close: int = 90_000
    """Near views drawn ahead."""
    text_steps: int = 250
    """Of the text tower alone, before the run."""
    text_share: float = 0.2
    """Of the learning rate, for the text tower once near views are over; until then it stays as it is."""
    rate: float = 1e-3
    warmup: int = 150
    decay: float = 0.05
    parts: int = 2
    """Of a step's pictures, computed at the same time; each is contrasted within itself."""
    blind: int = 8
    """Every other step the class token reads no patch before this block."""
    everything_from: float = 0.05
    """Share of the run after which every patch must be something."""
    averaging: float = 0.998
    """Of the weights that are kept, a step."""
    checkpoint_minutes: float = 5.0
    seed: int = 0


def read_apart(model: Towers, bank: Bank, settings: Settings) -> float:
    """Teach the text tower to tell texts apart before it sees a picture; returns the last loss.

    Two wordings of a phrase, or of a caption, must agree and differ from those of others, and a caption must
    be near its phrases. Without this start the names of objects, by which no picture can be told yet, fall
    together to one text, and then no picture can learn to be told by them.
    """
    rng = np.random.default_rng((settings.seed, 2))
    coloured = [Phrase(word, colour) for word in range(len(CLASS_NAMES)) for colour in range(len(COLOURS))]
    optimizer = torch.optim.AdamW(model.text.parameters(), lr=settings.rate, betas=(0.9, 0.98), fused=True)
    scale = model.logit_scale.detach().exp()
    contents = (*bank.wide_contents, *bank.close_contents)
    value = math.nan
    for step in range(settings.text_steps):
        shown = [contents[i] for i in rng.integers(len(contents), size=_TEXTS_A_STEP)]
        captions, again = ([caption_of([content], rng) for content in shown] for _ in range(2))
        picked = [coloured[i] for i in rng.choice(len(coloured), size=_TEXTS_A_STEP, replace=False)]
        phrases = (*PHRASES, *picked)
        own = torch.eye(len(phrases), dtype=torch.bool)
        # "A car" leaves open whether it is red, so the two neither agree nor differ.
        _, apart = entailed([[phrase] for phrase in phrases], phrases)
        first, second = (model.encode_text([phrase_text(p, rng) for p in phrases]) for _ in range(2))
        one, other = (model.encode_text([c.text for c in each]) for each in (captions, again))
        said, out = entailed([c.phrases for c in captions], phrases)
        same = torch.tensor([[a is b for b in shown] for a in shown])
        loss = phrase_loss(first @ second.T, scale, own, apart & apart.T)
        loss = loss + phrase_loss(one @ first.T, scale, said, out) + caption_loss(one, other, scale, same)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * min(1.0, (step + 1) / 40)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        value = float(loss.detach())
    return value


_TEXTS_A_STEP = 64


def losses(
    model: Towers, batch: Batch, settings: Settings, seed: tuple[int, ...], *, reading: bool
) -> dict[str, Tensor]:
    """Each term of the objective, and the share of pictures of which an object is named right.

    The text tower learns only while `reading`.
    """
    rng = np.random.default_rng((*seed, 1))
    per_region = [caption_of([content], rng).phrases for cells in batch.contents for content in cells]
    coloured = sorted({p for phrases in per_region for p in phrases if p.colour is not None})
    phrases = (*PHRASES, *coloured)
    blind = settings.blind if rng.random() < 0.5 else 0
    spare = GEOMETRY.grid - batch.pixels.shape[-1] // GEOMETRY.patch
    corner = (int(rng.integers(spare + 1)), int(rng.integers(spare + 1)))
    with torch.autocast("cpu", torch.bfloat16):
        whole, patches = model.encode_image(batch.pixels, blind, corner)
        with nullcontext() if reading else torch.no_grad():
            captions = model.encode_text([c.text for c in batch.captions])
            texts = model.encode_text([phrase_text(p, rng) for p in phrases])
    whole, patches, captions, texts = whole.float(), patches.float(), captions.float(), texts.float()
    said_whole, out_whole = entailed([c.phrases for c in batch.captions], phrases)
    sets = [frozenset(c.phrases) for c in batch.captions]
    same = torch.tensor([[a == b for b in sets] for a in sets])
    scale = model.logit_scale.exp().clamp(max=100)
    local = model.patch_scale.exp().clamp(max=60)
    said, out = entailed(per_region, phrases)
    found, everything = [], []
    words = len(PHRASES)
    first = 0
    for region in _regions(patches, batch.collages):
        rows = slice(first, first + len(region))
        first += len(region)
        scores = region @ texts.T
        found.append(phrase_loss(pooled_scores(scores), local, said[rows], out[rows]))
        everything.append(
            everything_loss(scores[..., :words], local, said[rows, :words], out[rows, :words], BEHIND)
        )
    cosines = whole @ texts.T
    objects = len(CLASS_NAMES)
    best = cosines[:, :objects].argmax(dim=1, keepdim=True)
    named = said_whole.gather(1, best)[said_whole[:, :objects].any(dim=1)]
    return {
        "caption": caption_loss(whole, captions, scale, same),
        "phrase": phrase_loss(cosines, scale, said_whole, out_whole),
        "found": torch.stack(found).mean(),
        "everything": torch.stack(everything).mean(),
        "named": named.float().mean(),
    }


def _regions(patches: Float[Tensor, "b p e"], collages: int) -> list[Float[Tensor, "_ _ e"]]:
    """Patches of whole pictures, then of the cells of collages, in the order of the contents."""
    singles = len(patches) - collages
    if not collages:
        return [patches]
    half = GEOMETRY.grid // 2
    cells = patches[singles:].unflatten(1, (2, half, 2, half)).transpose(2, 3)
    return [patches[:singles], cells.reshape(4 * collages, half * half, -1)]


@dataclass(eq=False)
class Progress:
    """All that a run needs to go on where it stopped."""

    model: Towers
    optimizer: torch.optim.AdamW
    kept: dict[str, Tensor]
    """Running mean of the weights: what is shipped."""
    step: int = 0
    seconds: float = 0.0
    """Of processor time spent training, over all starts."""

    def save(self, path: Path, settings: Settings) -> None:
        """Write a checkpoint; an earlier one stays whole until this one is."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "kept": self.kept,
            "step": self.step,
            "seconds": self.seconds,
            "settings": dataclasses.asdict(settings),
        }
        with atomic_open(path) as stream:
            torch.save(state, stream)

    def restore(self, path: Path, settings: Settings) -> None:
        """Take up a checkpoint.

        Raises:
            InputError: it belongs to a run with other settings.
        """
        saved = torch.load(path, weights_only=True)
        if saved["settings"] != dataclasses.asdict(settings):
            raise InputError(
                f"{path} belongs to a run with {saved['settings']}; give the same settings or another folder"
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.kept, self.step, self.seconds = saved["kept"], saved["step"], saved["seconds"]


def begin(settings: Settings) -> Progress:
    """A run before its first step."""
    model = Towers()
    model.start(torch.Generator().manual_seed(settings.seed))
    text = {id(p) for p in model.text.parameters()}
    groups = [
        {
            "params": [p for p in model.parameters() if (id(p) in text) == slow and (p.ndim > 1) == matrix],
            "weight_decay": settings.decay * matrix,
            "share": settings.text_share if slow else 1.0,
        }
        for slow in (False, True)
        for matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=True)
    return Progress(model, optimizer, {k: v.detach().clone() for k, v in model.state_dict().items()})


def train(folder: Path, settings: Settings) -> Progress:
    """Train for `settings.minutes`, going on from the checkpoint in `folder` if there is one."""
    bank = open_bank(folder / "bank", settings.wide, settings.close)
    run = begin(settings)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.is_file():
        run.restore(checkpoint, settings)
        logger.info("going on at step %d, %.1f minutes", run.step, run.seconds / 60)
    else:
        logger.info("phrases told apart: loss %.3f", read_apart(run.model, bank, settings))
        run.kept = {name: tensor.detach().clone() for name, tensor in run.model.state_dict().items()}
    saved_at = time.monotonic()
    sums: dict[str, float] = {}
    while run.seconds < settings.minutes * 60:
        began = time.process_time()
        terms = advance(run, bank, settings)
        run.seconds += time.process_time() - began
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value / _STEPS_A_LINE
        if run.step % _STEPS_A_LINE == 0:
            said = ", ".join(f"{name} {value:.3f}" for name, value in sums.items())
            logger.info("step %d, %.1f minutes: %s", run.step, run.seconds / 60, said)
            sums = {}
        if time.monotonic() - saved_at > settings.checkpoint_minutes * 60:
            saved_at = time.monotonic()
            run.save(checkpoint, settings)
    run.save(checkpoint, settings)
    return run


def advance(run: Progress, bank: Bank, settings: Settings) -> dict[str, float]:
    """One step; returns the value of each term."""
    done = min(run.seconds / (settings.minutes * 60), 1.0)
    warm = min(1.0, (run.step + 1) / settings.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = group["share"] * (settings.rate * warm * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6)

    def compute(part: int) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        torch.set_num_threads(1)  # of this thread: the parts are what runs at the same time
        return _gradients(run, bank, settings, done, part)

    # Threads of one process: nearly all time is spent inside torch, which lets them run side by side. Two
    # cores with a part each are done well before two that share every small product.
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
            run.kept[name].lerp_(now, share)
    first = results[0][0]
    return {name: sum(float(terms[name]) for terms, _ in results) / settings.parts for name in first}


def _gradients(
    run: Progress, bank: Bank, settings: Settings, done: float, part: int
) -> tuple[dict[str, Tensor], list[Tensor | None]]:
    """Terms, and the gradient of every parameter, of one part of a step's pictures."""
    near = done < settings.near
    count = (settings.near_batch if near else settings.batch) // settings.parts
    seed = (settings.seed, run.step, part)
    batch = (near_batch if near else mixed_batch)(bank, count, seed)
    terms = losses(run.model, batch, settings, seed, reading=not near)
    ramp = min(1.0, max(0.0, (done - settings.everything_from) / 0.1))
    loss = terms["caption"] + 0.5 * terms["phrase"] + terms["found"] + ramp * terms["everything"]
    parameters = list(run.model.parameters())
    grads: list[Tensor | None] = [*torch.autograd.grad(loss, parameters, allow_unused=True)]
    return {name: term.detach() for name, term in terms.items()}, grads


def write_weights(run: Progress, out: Path) -> None:
    """The averaged weights in half precision, with what `tagmask.load` wants to know about them."""
    model = Towers()
    model.load_state_dict(run.kept)
    metadata = {
        "activation": ACTIVATION,
        "mean": ", ".join(map(str, OPENAI_MEAN)),
        "std": ", ".join(map(str, OPENAI_STD)),
        "words": "\n".join(known_words()),
        "background": "\n".join(BACKGROUND_NAMES),
    }
    half = {name: tensor.half().contiguous() for name, tensor in model.tensors().items()}
    write_bytes(out, safetensors.torch.save(half, metadata))


_STEPS_A_LINE = 50


def main() -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(description="Train the miniature CLIP.")
    parser.add_argument("folder", type=Path, help="pictures drawn ahead, and the checkpoint")
    parser.add_argument("out", type=Path, help="weights file to write")
    parser.add_argument("--minutes", type=float, default=Settings.minutes)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = train(given.folder, Settings(minutes=given.minutes))
    write_weights(run, given.out)


if __name__ == "__main__":
    main()

"""WeakCLIP's rows of the table of speed: a step of training, what it holds, and the mask of an image.

Sizes are the paper's: ViT-B/16, 21 classes, crops of 512.
"""

import multiprocessing
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

import tagmask
from benchmarks.field import held
from benchmarks.plain_weakclip import plain_look, plain_mask, plain_step, trained
from benchmarks.rows import Row, Work, image_flops
from benchmarks.world import World, make_image, make_weights
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.weak import losses
from tagmask.weak.model import WeakClip
from tagmask.weak.model_file import published_tensors
from tagmask.weak.multiscale import TTAConfig
from tagmask.weak.pseudo import pseudo_mask

__all__ = ["WEAK_ROWS", "weakclip_memory"]

CLASSES = 21
CROPS = 2
"""In one step."""
SIDE = 512
SCALES = (0.75, 1.25)
"""Of the row about masks: 10 windows of the 52 that the paper's six scales make."""
FIELD = "weakclip/voc"

HEAD_FLOPS = 2 * (2.4e9 + 3.2e9 + 0.8e9 + 0.3e9 + 12.8e9 + 18.3e9 + 1.4e9)
"""Of one crop beside the tower: doublings, lateral and 3 x 3 convolutions, head, co-attention."""


def make_model(clip: tagmask.Clip) -> WeakClip:
    """Of the paper's size and settings; the classes' names do not matter to time."""
    return WeakClip.of(clip, [f"word {index}" for index in range(CLASSES)])


def make_crops() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (b, 3, h, w) of bytes, labels (b, h, w) of a few classes."""
    image = torch.from_numpy(make_image(SIDE, SIDE)).permute(2, 0, 1)
    labels = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    labels[100:300, 200:400], labels[350:, :150] = 5, 11
    return image.expand(CROPS, -1, -1, -1).contiguous(), labels.expand(CROPS, -1, -1).contiguous()


def our_step(model: WeakClip) -> Work:
    """One step; in the model's precision, by autocast, where that is a short one."""
    model.train()
    groups = model.parameter_groups("paper")
    optimiser = torch.optim.AdamW(groups[0].parameters, lr=1e-4, weight_decay=3e-5)
    images, labels = make_crops()
    short = model.precision != "float32"

    def step() -> torch.Tensor:
        pixels = model.normalise(images.permute(0, 2, 3, 1))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=short):
            seen = model(pixels)
        loss = losses.total(seen, labels, images)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def their_step(model: WeakClip) -> Work:
    """One step of the plain program, on copies of all weights."""
    tensors = trained(published_tensors(model))
    leaves = [tensor for tensor in tensors.values() if tensor.requires_grad]
    optimiser = torch.optim.AdamW(leaves, lr=1e-4, weight_decay=3e-5)
    images, labels = make_crops()
    return lambda: plain_step(tensors, model.ids, images, labels, optimiser, model.taps)


def step_row(world: World) -> Row:
    """A step of training."""
    ours = [make_model(clip) for clip in world.clips]
    counts = ours[0].counts()
    flops = CROPS * (image_flops((SIDE // 16) ** 2) + 3 * HEAD_FLOPS)
    return Row(
        "weakclip-step",
        (their_step(ours[0]), *(our_step(model) for model in ours)),
        flops,
        f"{CROPS} crops of {SIDE}, {CLASSES} classes, {counts.trainable:,} parameters trained of "
        f"{counts.total:,}; the CRF is a lattice in plain and exact in ours",
    )


def masks_row(world: World) -> Row:
    """The pseudo-mask of one image, its CRF included."""
    models = [make_model(clip).eval() for clip in world.clips]
    tensors, ids, taps = published_tensors(models[0]), models[0].ids, models[0].taps
    views = TTAConfig(scales=SCALES)

    def mask(model: WeakClip) -> np.ndarray:
        return pseudo_mask(model, world.image, CRF_SETTINGS[FIELD], views)

    def plain() -> np.ndarray:
        return plain_mask(tensors, ids, world.image, taps, SCALES, FIELD)

    with torch.inference_mode():
        crop = models[0].normalise(make_image(SIDE, SIDE)[None])
        exact = models[0](crop).logits
        apart = float((plain_look(tensors, ids, crop, taps)[0] - exact).abs().max() / exact.abs().max())
    windows = 10
    return Row(
        "weakclip-masks",
        (plain, *(partial(mask, model) for model in models)),
        windows * (image_flops((SIDE // 16) ** 2) + HEAD_FLOPS),
        f"375 x 500, scales {SCALES} and mirrored, {windows} windows, CRF of {FIELD}; "
        f"logits of a crop differ from plain's by {apart:.0e} of their range",
    )


def _step_growth(side: str) -> int:
    """By how many bytes two steps raise what a process holds beside the weights."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ViT-B-16.pt"
        torch.save(make_weights(), file)
        work = (their_step if side == "plain" else our_step)(make_model(tagmask.load(file, device="cpu")))
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most so far is forgotten
    work()
    work()
    return held("VmHWM") - before


def weakclip_memory() -> str:
    """A line on what a process that trains holds at most, for each side."""
    found = []
    for side in ("plain", "ours"):
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            found.append(alone.apply(_step_growth, (side,)))
    plain, ours = (value / 2**30 for value in found)
    return (
        f"* weakclip-memory: training on {CROPS} crops of {SIDE} takes, beside the weights, {plain:.1f} GiB "
        f"in plain and {ours:.1f} GiB in ours"
    )


WEAK_ROWS: Mapping[str, Callable[[World], Row]] = MappingProxyType(
    {"weakclip-step": step_row, "weakclip-masks": masks_row}
)
"""By name."""

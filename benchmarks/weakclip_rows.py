"""WeakCLIP's rows of the speed table: a training step, its memory, and the mask of an image.

Sizes as in the paper: ViT-B/16, 21 classes, crops of 512.
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
from benchmarks.inputs import BenchmarkInputs, make_image, make_weights
from benchmarks.plain_weakclip import plain_forward, plain_mask, plain_step, trained
from benchmarks.process_memory import memory_bytes, reset_peak
from benchmarks.rows import Row, Work, image_flops
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.weak import losses
from tagmask.weak.model import WeakClip
from tagmask.weak.model_file import published_tensors
from tagmask.weak.multiscale import TTAConfig
from tagmask.weak.pseudo import pseudo_mask

__all__ = ["WEAK_ROWS", "weakclip_memory"]

CLASSES = 21
CROPS = 2
"""Batch size of a step."""
SIDE = 512
SCALES = (0.75, 1.25)
"""Scales of the mask row: 10 of the 52 windows of the paper's six scales."""
CRF = "weakclip/voc"

HEAD_FLOPS = 2 * (2.4e9 + 3.2e9 + 0.8e9 + 0.3e9 + 12.8e9 + 18.3e9 + 1.4e9)
"""FLOP of one crop without the tower: upsampling, lateral and 3 x 3 convolutions, head, co-attention."""


def make_model(clip: tagmask.Clip) -> WeakClip:
    """Return a model of the paper's size and settings; the class names do not affect the time."""
    return WeakClip.of(clip, [f"word {index}" for index in range(CLASSES)])


def make_crops(count: int = CROPS, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 images (b, 3, h, w) and labels (b, h, w) of a few classes."""
    image = torch.from_numpy(make_image(side, side)).permute(2, 0, 1)
    labels = torch.zeros(side, side, dtype=torch.uint8)
    labels[side // 5 : side * 3 // 5, side * 2 // 5 : side * 4 // 5], labels[side * 2 // 3 :, : side // 3] = (
        1,
        2,
    )
    return image.expand(count, -1, -1, -1).contiguous(), labels.expand(count, -1, -1).contiguous()


def our_step(model: WeakClip, count: int = CROPS, side: int = SIDE) -> Work:
    """Return a training step of tagmask, with autocast if the model's precision is not float32."""
    model.train()
    groups = model.parameter_groups("paper")
    optimiser = torch.optim.AdamW(groups[0].parameters, lr=1e-4, weight_decay=3e-5)
    device = model.contexts.device
    images, labels = (each.to(device) for each in make_crops(count, side))
    autocast = model.precision != "float32"

    def step() -> torch.Tensor:
        pixels = model.normalise(images.permute(0, 2, 3, 1))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
            output = model(pixels)
        loss = losses.total(output, labels, images)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def their_step(model: WeakClip) -> Work:
    """Return a training step of the plain program, on copies of all weights."""
    tensors = trained(published_tensors(model))
    leaves = [tensor for tensor in tensors.values() if tensor.requires_grad]
    optimiser = torch.optim.AdamW(leaves, lr=1e-4, weight_decay=3e-5)
    images, labels = make_crops()
    return lambda: plain_step(tensors, model.ids, images, labels, optimiser, model.taps)


def step_row(inputs: BenchmarkInputs) -> Row:
    """Row for a training step."""
    ours = [make_model(clip) for clip in inputs.clips]
    counts = ours[0].counts()
    flops = CROPS * (image_flops((SIDE // 16) ** 2) + 3 * HEAD_FLOPS)
    return Row(
        "weakclip-step",
        (their_step(ours[0]), *(our_step(model) for model in ours)),
        flops,
        f"{CROPS} crops of {SIDE}, {CLASSES} classes, {counts.trainable:,} trainable parameters of "
        f"{counts.total:,}; the CRF is a lattice in plain and exact in tagmask",
    )


def masks_row(inputs: BenchmarkInputs) -> Row:
    """Row for the pseudo-mask of one image, including the CRF."""
    models = [make_model(clip).eval() for clip in inputs.clips]
    tensors, ids, taps = published_tensors(models[0]), models[0].ids, models[0].taps
    views = TTAConfig(scales=SCALES)

    def mask(model: WeakClip) -> np.ndarray:
        return pseudo_mask(model, inputs.image, CRF_SETTINGS[CRF], views)

    def plain() -> np.ndarray:
        return plain_mask(tensors, ids, inputs.image, taps, SCALES, CRF)

    with torch.inference_mode():
        crop = models[0].normalise(make_image(SIDE, SIDE)[None])
        exact = models[0](crop).logits
        difference = float(
            (plain_forward(tensors, ids, crop, taps)[0] - exact).abs().max() / exact.abs().max()
        )
    windows = 10
    return Row(
        "weakclip-masks",
        (plain, *(partial(mask, model) for model in models)),
        windows * (image_flops((SIDE // 16) ** 2) + HEAD_FLOPS),
        f"375 x 500, scales {SCALES} and flipped, {windows} windows, CRF {CRF}; "
        f"logits of a crop differ from plain's by {difference:.0e} of their range",
    )


def _step_growth(program: str) -> int:
    """Peak bytes of two steps, above the memory with loaded weights."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ViT-B-16.pt"
        torch.save(make_weights(), file)
        work = (their_step if program == "plain" else our_step)(make_model(tagmask.load(file, device="cpu")))
    before = memory_bytes("VmRSS")
    reset_peak()
    work()
    work()
    return memory_bytes("VmHWM") - before


def weakclip_memory() -> str:
    """Return a line with the peak memory of training, for each program."""
    growth = []
    for program in ("plain", "tagmask"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            growth.append(pool.apply(_step_growth, (program,)))
    plain, ours = (value / 2**30 for value in growth)
    return (
        f"* weakclip-memory: training on {CROPS} crops of {SIDE} takes, in addition to the weights, "
        f"{plain:.1f} GiB in plain and {ours:.1f} GiB in tagmask"
    )


WEAK_ROWS: Mapping[str, Callable[[BenchmarkInputs], Row]] = MappingProxyType(
    {"weakclip-step": step_row, "weakclip-masks": masks_row}
)
"""By name."""

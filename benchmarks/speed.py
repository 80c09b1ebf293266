"""`make speed`: this package against the plain transcription, in one run, on this machine.

Every repeat times both sides right after each other and keeps their ratio, so a machine that slows down for a
while slows both; what is shown is the median. The weights have the size of OpenAI's ViT-B/16 and made-up
values: time does not depend on what the numbers are, answers do, so none are shown. Text features are made
before the clock starts, except in the row that is about them.

    python -m benchmarks.speed [--repeats N] [--only NAME ...]
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import tagmask
from benchmarks.plain import (
    class_names,
    plain_patch_scores,
    plain_sclip,
    plain_tagclip,
    plain_text,
)
from benchmarks.plain_clip import Tensors
from tagmask.clip.tokenizer import END, tokenize
from tagmask.dense.prompts import text_features
from tagmask.settings.kinds import MaskRecipe, TagRecipe

__all__ = ["main"]

Work = Callable[[], object]

VISION = (12, 768)
"""Layers and width."""
TEXT = (12, 512)
EMBED = 512
TEMPLATES = 2
"""Sentences a word in the rows about images, whose text features are not timed."""


@dataclass(frozen=True)
class Row:
    """The same work done by each side."""

    name: str
    sides: Sequence[Work]
    """Plain, ours in float32, ours in what "auto" chooses (left out where that is float32 again)."""
    flops: float
    """Of the matrix products that the answer needs."""
    note: str


@dataclass(frozen=True)
class World:
    """Weights and an image."""

    tensors: Tensors
    clips: Sequence[tagmask.Clip]
    """In float32, and in what "auto" chooses if that is another."""
    image: np.ndarray


# -- A full-size model with made-up values -------------------------------------------------------------------


def make_weights() -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of OpenAI's ViT-B/16."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, std: float = 0.02) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * std

    def norm(name: str, width: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.ones(width), f"{name}.bias": draw(width)}

    def blocks(prefix: str, layers: int, width: int) -> Iterator[tuple[str, torch.Tensor]]:
        for layer in range(layers):
            block = f"{prefix}transformer.resblocks.{layer}"
            yield from norm(f"{block}.ln_1", width).items()
            yield from norm(f"{block}.ln_2", width).items()
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                yield f"{block}.{name}weight", draw(rows, columns, std=columns**-0.5)
                yield f"{block}.{name}bias", draw(rows)

    (vision_layers, vision), (text_layers, text) = VISION, TEXT
    return {
        "visual.conv1.weight": draw(vision, 3, 16, 16),
        "visual.class_embedding": draw(vision),
        "visual.positional_embedding": draw(197, vision, std=0.2),
        **norm("visual.ln_pre", vision),
        **dict(blocks("visual.", vision_layers, vision)),
        **norm("visual.ln_post", vision),
        "visual.proj": draw(vision, EMBED, std=vision**-0.5),
        "token_embedding.weight": draw(49408, text),
        "positional_embedding": draw(77, text, std=0.01),
        **dict(blocks("", text_layers, text)),
        **norm("ln_final", text),
        "text_projection": draw(text, EMBED, std=text**-0.5),
        "logit_scale": torch.tensor(float(np.log(100))),
    }


def make_image(h: int, w: int) -> np.ndarray:
    """Two ramps, waves and noise."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    planes = np.stack([np.sin(7 * y + 3 * x), np.cos(9 * x - 2 * y), np.sin(20 * x * y)], axis=-1)
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (h, w, 3))
    return np.clip(127 + 100 * (planes + noise), 0, 255).astype(np.uint8)


def make_world(folder: Path) -> World:
    """Save the weights, and load them as a user does."""
    tensors = make_weights()
    file = folder / "ViT-B-16.pt"
    torch.save(tensors, file)
    clips = [tagmask.load(file, device="cpu", precision=precision) for precision in ("float32", "auto")]
    differ = clips[0].precision != clips[1].precision
    return World(tensors, clips if differ else clips[:1], make_image(375, 500))


# -- Rows ----------------------------------------------------------------------------------------------------


def tower_flops(tower: tuple[int, int], tokens: int) -> float:
    """Of the matrix products of one sequence: projections and MLP, then queries with keys and values."""
    layers, width = tower
    return layers * (24 * tokens * width**2 + 4 * tokens**2 * width)


def image_flops(patches: int) -> float:
    """Of the image tower, its patch embedding and its projection."""
    _, width = VISION
    return tower_flops(VISION, 1 + patches) + 2 * patches * 768 * width + 2 * (1 + patches) * width * EMBED


def sclip_row(world: World, name: str, recipe: str) -> Row:
    """Masks of one image: six windows."""
    changed = tagmask.recipe(recipe)
    assert isinstance(changed, MaskRecipe)
    changed = replace(changed, short_side=336, templates=changed.templates[:TEMPLATES])
    names, classes = class_names(changed)
    text = plain_text(world.tensors, names, changed.templates)
    ours = [partial(tagmask.Segmenter(clip, recipe=changed), world.image) for clip in world.clips]
    windows, patches = 6, 14 * 14
    return Row(
        name,
        (lambda: plain_sclip(world.tensors, world.image, changed, text), *ours),
        windows * (image_flops(patches) + 2 * patches * EMBED * len(names)),
        f"375 x 500 at short side 336, {windows} windows, {classes[-1] + 1} classes ({len(names)} names)",
    )


def tagclip_row(world: World) -> Row:
    """Tags of one image; the threshold is moved so that all sides look again at equally many classes."""
    recipe = tagmask.recipe("tagclip/voc2012")
    assert isinstance(recipe, TagRecipe)
    recipe = replace(recipe, templates=recipe.templates[:TEMPLATES])
    text = plain_text(world.tensors, [*recipe.words, *recipe.background], recipe.templates)
    _, refined, _ = plain_patch_scores(world.tensors, world.image, recipe, text)
    recipe = replace(recipe, candidate_tau=widest_gap(refined, len(recipe.words)))
    taggers = [tagmask.Tagger(clip, recipe=recipe) for clip in world.clips]
    again = len(plain_tagclip(world.tensors, world.image, recipe, text)[2])
    counts = [again, *(looked_again(world, tagger) for tagger in taggers)]
    patches, texts = 24 * 32, len(text)
    return Row(
        "tagclip",
        (
            lambda: plain_tagclip(world.tensors, world.image, recipe, text),
            *(partial(tagger, world.image) for tagger in taggers),
        ),
        image_flops(patches)
        + again * image_flops(14 * 14)
        + 2 * patches * EMBED * texts
        + 4 * patches**2 * texts,
        f"375 x 500, {patches} patches, {texts} texts, classes looked at again: {counts}",
    )


def widest_gap(refined: torch.Tensor, foreground: int) -> float:
    """The candidate threshold, as a share of the range, in the widest gap that leaves 1 to 4 candidates."""
    low, high = refined.min(), refined.max()
    shares = ((refined.amax(dim=0)[:foreground] - low) / (high - low)).sort(descending=True).values.tolist()
    gaps = [(shares[k - 1] - shares[k], (shares[k - 1] + shares[k]) / 2) for k in range(1, 5)]
    return float(max(gaps)[1])


def looked_again(world: World, tagger: tagmask.Tagger) -> int:
    """How many classes got another score than without the second look."""
    without = tagmask.Tagger(tagger.clip, recipe=replace(tagger.recipe, cwr=False))
    return int((tagger(world.image).scores != without(world.image).scores).sum())


def text_row(world: World) -> Row:
    """Features of 16 words in 16 sentences each, nothing remembered."""
    recipe = tagmask.recipe("sclip/voc20")
    assert isinstance(recipe, MaskRecipe)
    words, templates = class_names(recipe)[0][:16], recipe.templates[:16]
    ids = tokenize([template.replace("{}", word) for word in words for template in templates])
    lengths = ((ids == END).int().argmax(dim=1) + 1).tolist()

    def ours(clip: tagmask.Clip) -> None:
        with own_home():
            text_features(clip, words, templates)

    return Row(
        "text",
        (
            lambda: plain_text(world.tensors, words, templates),
            *(partial(ours, clip) for clip in world.clips),
        ),
        sum(tower_flops(TEXT, length) for length in lengths),
        f"{len(lengths)} sentences of {min(lengths)} to {max(lengths)} tokens, all 77 in plain",
    )


@contextmanager
def own_home() -> Iterator[None]:
    """An empty cache folder, gone afterwards."""
    before = os.environ.get("TAGMASK_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["TAGMASK_HOME"] = home
        try:
            yield
        finally:
            if before is None:
                del os.environ["TAGMASK_HOME"]
            else:
                os.environ["TAGMASK_HOME"] = before


ROWS: dict[str, Callable[[World], Row]] = {
    "sclip-21": lambda world: sclip_row(world, "sclip-21", "sclip/voc21"),
    "sclip-171": lambda world: sclip_row(world, "sclip-171", "sclip/coco-stuff"),
    "tagclip": tagclip_row,
    "text": text_row,
}


# -- Clocks --------------------------------------------------------------------------------------------------


def seconds(work: Work) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Matrix products here and now, in FLOP/s."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(4))


def measure(row: Row, repeats: int) -> tuple[str, np.ndarray]:
    """One line of the table, and the peaks (float32, bfloat16) met on the way."""
    for side in row.sides:
        side()
    times, peaks = [], []
    for _ in range(repeats):
        times.append([seconds(side) for side in row.sides])
        peaks.append([peak(torch.float32), peak(torch.bfloat16)])
    plain, *ours = np.array(times).T
    cells = [row.name, f"{np.median(plain):.2f}"]
    for spent, top in zip(ours, np.array(peaks).T, strict=False):
        cells += [
            f"{np.median(spent):.2f}",
            f"{np.median(plain / spent):.2f}x",
            f"{np.median(row.flops / top / spent):.0%}",
        ]
    cells += ["-"] * (8 - len(cells))
    return f"| {' | '.join(cells)} |", np.median(peaks, axis=0)


def main() -> None:
    """Measure the rows asked for and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=main.__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="pairs a row, default 5")
    parser.add_argument("--only", action="append", choices=ROWS, metavar="NAME", help=", ".join(ROWS))
    asked = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, own_home():
        world = make_world(Path(folder))
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; "
            f"auto is {world.clips[-1].precision}; load {os.getloadavg()[0]:.1f} at the start\n"
        )
        print("| row | plain s | ours s | ratio | of peak | auto s | ratio | of peak |")
        print("|---|---|---|---|---|---|---|---|")
        notes, peaks = [], []
        for name in asked.only or ROWS:
            row = ROWS[name](world)
            line, met = measure(row, asked.repeats)
            print(line, flush=True)
            peaks.append(met)
            notes.append(f"* {row.name}: {row.note}; {row.flops / 1e9:.0f} GFLOP")
    float32, bfloat16 = np.median(peaks, axis=0) / 1e9
    notes.append(
        f"* peak: a product of 2048 x 2048 matrices, {float32:.0f} GFLOP/s, in bfloat16 {bfloat16:.0f}"
    )
    print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()

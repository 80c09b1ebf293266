"""What `tagmask demo` does: drawn pictures, the bundled model, tags, masks and a page to look at."""

import io
import time
from pathlib import Path

import numpy as np
import typer
from jaxtyping import Float32
from PIL import Image

from tagmask import __version__
from tagmask.api import Segmenter, Tagger
from tagmask.bench.miniature.ground_truth import objects_only
from tagmask.cli.attention import DEFAULT_METHODS
from tagmask.cli.console import bold, green, message, with_progress
from tagmask.clip.load import Clip
from tagmask.files import ensure_folder, write_bytes
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES, COLOURS, Scene
from tagmask.pipelines.attention_maps import patch_attention
from tagmask.report import AttentionExample, ReportItem, render
from tagmask.results import Segmentation, Tags

__all__ = ["show"]

_SEEDS = (1, 2, 3, 5, 6, 7, 9, 10)
"""Unseen scenes with a few objects each; chosen for variety, before any model had seen them."""
_LOOK_SEED, _LOOK_POINTS = 10, ((210, 65), (95, 228))
"""The scene whose patches are asked where they look, the last of those above; the large hat, the plane."""
_QUALITY = 90


def show(clip: Clip, out: Path) -> None:
    """Draw, tag, mask, print a table, and write pictures, masks, overlays and `report.html` below `out`."""
    ensure_folder(out)
    began = time.monotonic()
    tagger = Tagger(clip, CLASS_NAMES)
    segmenter = Segmenter(clip, CLASS_NAMES)
    refined = Segmenter(clip, CLASS_NAMES, pamr_steps=10)
    tagged = Segmenter(clip, CLASS_NAMES, method="cls-seg", crf="cls-seg")
    activation = Segmenter(clip, CLASS_NAMES, method="cls-seg")
    sights = []
    scenes = [unseen_scene(seed) for seed in _SEEDS]
    width = 2 + max(len(_drawn(scene)) for scene in scenes)
    typer.echo("Tags by TagCLIP, masks of them by CLS-SEG and a CRF; SCLIP's are in the report.")
    typer.echo(f"{'picture':<10}{'pixels right':<14}{'drawn':<{width}}tags found")
    for number, scene in with_progress(list(enumerate(scenes, start=1)), len(scenes)):
        name = f"scene-{number}"
        tags, masks, smooth = tagger(scene.image), segmenter(scene.image), refined(scene.image)
        of_tags = tagged(scene.image)
        _write(out, name, scene, of_tags)
        typer.echo(_row(name, scene, tags, of_tags, width))
        truth = Segmentation(segmenter.words, objects_only(scene.labels), None, True, clip.precision)
        sights.append(
            ReportItem(
                name=name,
                image=scene.image,
                tags=tags,
                segmentations=(("CLS-SEG + CRF", of_tags), ("SCLIP + PAMR", smooth), ("SCLIP", masks)),
                truth=truth,
                note=f"Drawn: {_drawn(scene)}.",
                maps=_maps(activation(scene.image, tags=of_tags.tags, scores=True)),
            )
        )
    spent = time.monotonic() - began
    facts = {
        "Weights": f"{clip.name}: {clip.describe()}",
        "Words": ", ".join(CLASS_NAMES),
        "Time": f"{spent:.1f} s for {len(sights)} pictures: tags, and masks in three ways",
        "Version": f"tagmask {__version__}",
        "Command": "tagmask demo",
    }
    page = out / "report.html"
    looks = [("What one square listens to", _LOOK_LEAD, _look(clip))]
    write_bytes(page, render("What tagmask sees", _LEAD, sights, facts, looks=looks).encode())
    typer.echo("")
    typer.echo(bold(f"Open {page} in a browser."))
    message(
        f"Pictures, masks and overlays are in {out}. The bundled model knows this drawn world only. Next:\n"
        "  tagmask mask FOLDER -w cat -w dog --weights ViT-B-16.pt --out masks   (your photos)\n"
        f"  tagmask mask {out / 'pictures'} -w car -w tree --weights miniature --out masks\n"
        "  tagmask doctor   (what this machine has, and which weights were found)"
    )


_LEAD = (
    "Pictures that the model never saw, drawn by tagmask's miniature world. The words were all that it was "
    "given: the tags say which of them it finds in a picture, the masks say where. Since the pictures are "
    "drawn the truth is known exactly, and stands beside what was found."
)


_LOOK_LEAD = (
    "The model sees a picture as small squares, and before it says what a square shows, the square listens "
    "to others. The ring marks one square; warm is what it listens to. As trained (clip) that is much of the "
    "picture. Methods that make masks change this, in the last layer: a square on a hat listens to the hat."
)


def _look(clip: Clip) -> AttentionExample:
    image = unseen_scene(_LOOK_SEED).image
    return AttentionExample(
        image, _LOOK_POINTS, DEFAULT_METHODS, patch_attention(clip, image, _LOOK_POINTS, DEFAULT_METHODS)
    )


def _write(out: Path, name: str, scene: Scene, masks: Segmentation) -> None:
    picture = io.BytesIO()
    Image.fromarray(scene.image).save(picture, "PNG")
    write_bytes(out / "pictures" / f"{name}.png", picture.getvalue())
    overlay = io.BytesIO()
    masks.overlay(scene.image).save(overlay, "JPEG", quality=_QUALITY)
    write_bytes(out / "overlays" / f"{name}.jpg", overlay.getvalue())
    masks.save(out / "masks" / f"{name}.png")


def _maps(found: Segmentation) -> tuple[tuple[str, Float32[np.ndarray, "h w"]], ...]:
    """CLS-SEG's activation map of each tag."""
    scores = found.scores
    if scores is None or found.tags is None:
        return ()
    return tuple((found.words[tag + found.background], scores[tag + found.background]) for tag in found.tags)


def _drawn(scene: Scene) -> str:
    return ", ".join(
        f"{tuple(COLOURS)[thing.colour]} {CLASS_NAMES[thing.kind]}" for thing in scene.content.things
    )


def _row(name: str, scene: Scene, tags: Tags, masks: Segmentation, width: int) -> str:
    there = {CLASS_NAMES[thing.kind] for thing in scene.content.things}
    found = ", ".join(green(tag) if tag in there else tag for tag in tags.names)
    right = float(np.mean(masks.labels == objects_only(scene.labels)))
    return f"{name:<10}{right:<14.0%}{_drawn(scene):<{width}}{found}"

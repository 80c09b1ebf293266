"""`tagmask demo`: tag and mask drawn scenes with the bundled model, and write a report page."""

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
from tagmask.report import AttentionExample, ReportItem, render, words_found
from tagmask.results import Segmentation, Tags

__all__ = ["run_demo"]

_SEEDS = range(1, 9)
"""Unseen scenes, the first eight; not chosen by result."""
_ATTENTION_SEED, _ATTENTION_POINTS = 10, ((210, 65), (95, 228))
"""A scene with points on its large hat and its plane, for the attention maps."""
_QUALITY = 90


def run_demo(clip: Clip, out: Path) -> None:
    """Tag and mask drawn scenes, print a table, and write images, masks, overlays and `report.html`."""
    ensure_folder(out)
    start = time.monotonic()
    tagger = Tagger(clip, CLASS_NAMES)
    sclip = Segmenter(clip, CLASS_NAMES)
    purified_crf = Segmenter(clip, CLASS_NAMES, purify=True, refine="crf")
    cls_seg_crf = Segmenter(clip, CLASS_NAMES, method="cls-seg", refine="crf")
    cls_seg = Segmenter(clip, CLASS_NAMES, method="cls-seg")
    items = []
    scenes = [unseen_scene(seed) for seed in _SEEDS]
    width = 2 + max(len(_objects(scene)) for scene in scenes)
    typer.echo(
        "Tags by TagCLIP; masks by SCLIP, purified by FreeCP, and a CRF. The report also shows\n"
        "the masks of CLS-SEG + CRF and of plain SCLIP.\n"
        "An object is found if its mask has an IoU of 0.5 or more with the exact one."
    )
    typer.echo(f"{'image':<10}{'found':<8}{'objects':<{width}}tags")
    for number, scene in with_progress(list(enumerate(scenes, start=1)), len(scenes)):
        name = f"scene-{number}"
        tags, masks, purified = tagger(scene.image), sclip(scene.image), purified_crf(scene.image)
        tag_masks = cls_seg_crf(scene.image)
        _write(out, name, scene, purified)
        typer.echo(_row(name, scene, tags, purified, width))
        truth = Segmentation(sclip.words, objects_only(scene.labels), None, True, clip.precision)
        items.append(
            ReportItem(
                name=name,
                image=scene.image,
                tags=tags,
                segmentations=(
                    ("SCLIP, purified, + CRF", purified),
                    ("CLS-SEG + CRF", tag_masks),
                    ("SCLIP", masks),
                ),
                truth=truth,
                note=f"Objects: {_objects(scene)}.",
                maps=_maps(cls_seg(scene.image, tags=tag_masks.tags, scores=True)),
            )
        )
    seconds = time.monotonic() - start
    metadata = {
        "Weights": f"{clip.name}: {clip.describe()}",
        "Words": ", ".join(CLASS_NAMES),
        "Time": f"{seconds:.1f} s for {len(items)} images: tags, and masks by three methods",
        "Version": f"tagmask {__version__}",
        "Command": "tagmask demo",
    }
    page = out / "report.html"
    attention = [("What one patch attends to", _ATTENTION_LEAD, _attention_example(clip))]
    write_bytes(page, render("tagmask demo", _LEAD, items, metadata, attention=attention).encode())
    typer.echo("")
    typer.echo(bold(f"Open {page} in a browser."))
    message(f"Images, masks and overlays are in {out}. The bundled model works only on drawn scenes. Next:")
    message("  tagmask mask FOLDER -w cat -w dog --weights ViT-B-16.pt --out masks   (your own images)")
    message(f"  tagmask mask {out / 'images'} -w car -w tree --weights miniature --out masks")
    message("  tagmask doctor   (hardware, and which weights are installed)")


_LEAD = (
    "Scenes drawn by tagmask that the model was not trained on. Its only input besides the images is the "
    "list of words. Tags say which words are in an image; masks say where. Because the images are drawn, the "
    "exact ground truth is known and shown for comparison."
)


_ATTENTION_LEAD = (
    "The model splits an image into square patches. In each layer, every patch attends to other patches. The "
    "ring marks one patch; warm colours show what it attends to in the last layer. In the original model "
    "(clip), attention is spread over much of the image. The mask methods change it so that a patch on a hat "
    "mostly attends to the hat."
)


def _attention_example(clip: Clip) -> AttentionExample:
    image = unseen_scene(_ATTENTION_SEED).image
    return AttentionExample(
        image,
        _ATTENTION_POINTS,
        DEFAULT_METHODS,
        patch_attention(clip, image, _ATTENTION_POINTS, DEFAULT_METHODS),
    )


def _write(out: Path, name: str, scene: Scene, masks: Segmentation) -> None:
    image = io.BytesIO()
    Image.fromarray(scene.image).save(image, "PNG")
    write_bytes(out / "images" / f"{name}.png", image.getvalue())
    overlay = io.BytesIO()
    masks.overlay(scene.image).save(overlay, "JPEG", quality=_QUALITY)
    write_bytes(out / "overlays" / f"{name}.jpg", overlay.getvalue())
    masks.save(out / "masks" / f"{name}.png")


def _maps(masks: Segmentation) -> tuple[tuple[str, Float32[np.ndarray, "h w"]], ...]:
    """Return CLS-SEG's activation map of each tag."""
    scores = masks.scores
    if scores is None or masks.tags is None:
        return ()
    return tuple((masks.words[tag + masks.background], scores[tag + masks.background]) for tag in masks.tags)


def _objects(scene: Scene) -> str:
    return ", ".join(
        f"{tuple(COLOURS)[thing.colour]} {CLASS_NAMES[thing.kind]}" for thing in scene.content.things
    )


def _row(name: str, scene: Scene, tags: Tags, masks: Segmentation, width: int) -> str:
    present = {CLASS_NAMES[thing.kind] for thing in scene.content.things}
    names = ", ".join(green(tag) if tag in present else tag for tag in tags.names)
    found, of = words_found(masks.labels, objects_only(scene.labels), 0)
    return f"{name:<10}{f'{found} of {of}':<8}{_objects(scene):<{width}}{names}"

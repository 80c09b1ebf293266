"""What `tagmask demo` does: drawn pictures, the bundled model, tags, masks and a page to look at."""

import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import typer
from jaxtyping import Float32
from PIL import Image

from tagmask import __version__
from tagmask.api import Segmenter, Tagger
from tagmask.bench.miniature import objects_only
from tagmask.cli.talk import bold, green, say, watched
from tagmask.clip.load import Clip
from tagmask.files import ensure_folder, write_bytes
from tagmask.miniature.scenes import CLASS_NAMES, COLOURS, Scene
from tagmask.miniature.trials import unseen_scene
from tagmask.report import Sight, render
from tagmask.results import Segmentation, Tags

__all__ = ["show"]

_SEEDS = (1, 2, 3, 5, 6, 7, 9, 10)
"""Unseen scenes with a few objects each; chosen for variety, before any model had seen them."""
_QUALITY = 90


def show(clip: Clip, out: Path) -> None:
    """Draw, tag, mask, print a table, and write pictures, masks, overlays and `report.html` below `out`."""
    ensure_folder(out)
    began = time.monotonic()
    tagger = Tagger(clip, CLASS_NAMES)
    segmenter = Segmenter(clip, CLASS_NAMES)
    refined = Segmenter(clip, CLASS_NAMES, pamr_steps=10)
    tagged = Segmenter(clip, CLASS_NAMES, method="cls-seg")
    sights = []
    typer.echo(f"{'picture':<10}{'drawn':<44}{'tags found':<34}pixels right")
    for number, seed in watched(list(enumerate(_SEEDS, start=1)), len(_SEEDS)):
        scene = unseen_scene(seed)
        name = f"scene-{number}"
        tags, masks, smooth = tagger(scene.image), segmenter(scene.image), refined(scene.image)
        of_tags = tagged(scene.image, scores=True)
        _write(out, name, scene, masks)
        typer.echo(_row(name, scene, tags, masks))
        truth = Segmentation(segmenter.words, objects_only(scene.labels), None, True, clip.precision)
        sights.append(
            Sight(
                name=name,
                image=scene.image,
                tags=tags,
                segmentations=(("SCLIP", masks), ("SCLIP + PAMR", smooth), ("CLS-SEG", of_tags)),
                truth=truth,
                note=f"Drawn: {_drawn(scene)}.",
                maps=_maps(of_tags),
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
    write_bytes(page, render("What tagmask sees", _LEAD, sights, facts).encode())
    typer.echo("")
    typer.echo(bold(f"Open {page} in a browser."))
    say(
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


def _row(name: str, scene: Scene, tags: Tags, masks: Segmentation) -> str:
    there = {CLASS_NAMES[thing.kind] for thing in scene.content.things}
    shown = _padded([(tag, tag in there) for tag in tags.names], 34)
    right = float(np.mean(masks.labels == objects_only(scene.labels)))
    return f"{name:<10}{_drawn(scene):<44}{shown}{right:.0%}"


def _padded(tags: Sequence[tuple[str, bool]], width: int) -> str:
    """Names in a column, right ones green; the padding counts letters, not colour codes."""
    plain = ", ".join(name for name, _ in tags)
    coloured = ", ".join(green(name) if right else name for name, right in tags)
    return coloured + " " * max(1, width - len(plain))

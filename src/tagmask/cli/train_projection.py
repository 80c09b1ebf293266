"""`tagmask train projection`: train the projection of sclip-learned on labelled images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.arguments import load_weights, read_words, require_words
from tagmask.cli.console import message, report_errors
from tagmask.cli.options import ActivationOption, Device, Precision, PrecisionOption, Weights, Words

if TYPE_CHECKING:
    from tagmask.papers.sclip_projection import LabelledImage, Watch
    from tagmask.runtime.folders import FoundImage

__all__ = ["projection"]


def projection(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES_DIR", help="Folder of images.", show_default=False)
    ],
    masks: Annotated[
        Path,
        typer.Argument(
            metavar="MASKS_DIR", help="Folder of index PNGs with the same names.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Number of training steps.", min=1)] = 1000,
    batch: Annotated[int, typer.Option(metavar="N", help="Windows per step.", min=1)] = 8,
    limit: Annotated[
        int, typer.Option(metavar="N", help="Largest number of images; sampled at random.", min=1)
    ] = 64,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.", min=0)] = 0,
    device: Device = "auto",
    precision: PrecisionOption = Precision.float32,
) -> None:
    """Train the attention of sclip-learned on a few labelled images.

    Mask values are indices into the words, counted from 0; pixels of 255 are
    ignored. A background class, if any, must be the first word.
    """
    with report_errors():
        from tagmask.dense.prompts import split_names, text_features
        from tagmask.papers.sclip_projection import ProjectionSettings, train_projection
        from tagmask.resolve import mask_recipe
        from tagmask.variants.learned import write_projection

        recipe = mask_recipe(None, require_words(read_words(word), None), [], None, {})
        pairs = sample_pairs(images, masks, limit, seed)
        names = split_names(recipe.words)
        clip = load_weights(weights, activation, device, precision)
        texts = text_features(clip, names.texts, recipe.templates)
        settings = ProjectionSettings(images=limit, steps=steps, batch=batch, seed=seed)
        message(f"training on {len(pairs)} images")
        projection_weights = train_projection(
            clip, _read(pairs), names, texts, settings, _loss_printer(steps)
        )
        write_projection(out, projection_weights)
        message(f"written to {out}. Use it with method='sclip-learned', projection='{out}'.")


def sample_pairs(images: Path, masks: Path, limit: int, seed: int) -> list[tuple["FoundImage", Path]]:
    """Sample at most `limit` images and their masks, in the order of their names.

    Raises:
        InputError: there are no images, or a sampled image has no mask.
    """
    import numpy as np

    from tagmask.errors import InputError
    from tagmask.runtime.folders import find_images

    found = find_images([images])
    sample = np.sort(np.random.default_rng(seed).permutation(len(found))[:limit])
    pairs = [(found[i], masks / found[i].name.with_suffix(".png")) for i in sample]
    for image, mask in pairs:
        if not mask.is_file():
            raise InputError(
                f"{image.path} has no mask {mask}. Give each image an index PNG of the same name, "
                "as `tagmask mask` writes them."
            )
    return pairs


def _read(pairs: Sequence[tuple["FoundImage", Path]]) -> Iterator["LabelledImage"]:
    from tagmask.images import read_image
    from tagmask.masks import read_index_png

    for image, mask in pairs:
        yield read_image(image.path), read_index_png(mask)


def _loss_printer(steps: int) -> "Watch":
    """Return a callback that prints the mean loss ten times per run."""
    interval = max(steps // 10, 1)
    losses: list[float] = []

    def watch(step: int, loss: float) -> None:
        losses.append(loss)
        if step % interval == 0 or step == steps:
            message(f"step {step} of {steps}: loss {sum(losses) / len(losses):.4f}")
            losses.clear()

    return watch

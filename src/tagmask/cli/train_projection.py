"""`tagmask train projection`: train the projection of sclip-learned on labelled images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.arguments import load_weights, read_words, require_words
from tagmask.cli.console import message, report_errors
from tagmask.cli.options import ActivationOption, Device, Precision, PrecisionOption, Weights, Words

if TYPE_CHECKING:
    from tagmask.data.sample import Sample
    from tagmask.papers.sclip_projection import LabelledImage, Watch
    from tagmask.runtime.folders import FoundImage
    from tagmask.settings.recipes import MaskRecipe

__all__ = ["projection"]


def projection(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    images: Annotated[
        Path | None, typer.Argument(metavar="IMAGES_DIR", help="Folder of images.", show_default=False)
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Argument(
            metavar="MASKS_DIR", help="Folder of index PNGs with the same names.", show_default=False
        ),
    ] = None,
    word: Words = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In place of the folders and -w: a benchmark's words, such as sclip/voc21.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="ROOT", help="Folder of the recipe's data set; its split train is used."),
    ] = None,
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

    Give two folders and words, or a benchmark's recipe and data:

    tagmask train projection IMAGES_DIR MASKS_DIR -w cat -w dog -o FILE

    tagmask train projection --recipe sclip/voc21 --data VOCdevkit -o FILE

    Mask values are indices into the words, counted from 0; pixels of 255 are
    ignored. A background class, if any, must be the first word.
    """
    with report_errors():
        from tagmask.dense.prompts import split_names, text_features
        from tagmask.errors import InputError
        from tagmask.papers.sclip_projection import ProjectionSettings, train_projection
        from tagmask.resolve import mask_recipe
        from tagmask.variants.learned import write_projection

        words = read_words(word)
        if recipe is not None:
            found = _benchmark(recipe, [images, masks, words])
            background = [", ".join(found.background)] if found.background else []
            names = split_names([*background, *found.words])
            samples = _benchmark_samples(found, data, len(names.classes), limit, seed)
            templates, labelled, count = found.templates, _read_samples(samples), len(samples)
        elif images is None or masks is None or data is not None:
            raise InputError(
                "Give IMAGES_DIR, MASKS_DIR and -w WORD, or --recipe METHOD/DATASET and --data ROOT."
            )
        else:
            own = mask_recipe(None, require_words(words, None), [], None, {})
            names = split_names(own.words)
            pairs = sample_pairs(images, masks, limit, seed)
            templates, labelled, count = own.templates, _read(pairs), len(pairs)
        clip = load_weights(weights, activation, device, precision)
        texts = text_features(clip, names.texts, templates)
        settings = ProjectionSettings(images=limit, steps=steps, batch=batch, seed=seed)
        message(f"training on {count} images")
        projection_weights = train_projection(clip, labelled, names, texts, settings, _loss_printer(steps))
        write_projection(out, projection_weights)
        message(f"written to {out}. Use it with method='sclip-learned', projection='{out}'.")


def _benchmark(name: str, others: Sequence[object]) -> "MaskRecipe":
    """The dense recipe of a benchmark.

    Raises:
        InputError: it is not one, or folders or words are given too.
    """
    from tagmask.errors import InputError
    from tagmask.resolve import mask_recipe
    from tagmask.settings.recipes import MaskRecipe

    if any(other is not None for other in others):
        raise InputError("--recipe has its own words and images. Leave out the folders and -w.")
    found = mask_recipe(name)
    if not isinstance(found, MaskRecipe):
        raise InputError(
            f"{name} masks tags and has no projection. Give a dense recipe, such as sclip/voc21."
        )
    return found


def _benchmark_samples(
    recipe: "MaskRecipe", root: Path | None, classes: int, limit: int, seed: int
) -> list["Sample"]:
    """Sample images of the train split of a recipe's data set, in the order of its list.

    Raises:
        InputError: no folder is given, or it has no such split or no masks.
    """
    import numpy as np

    from tagmask.data.catalogue import open_dataset
    from tagmask.errors import InputError

    name = recipe.name.partition("/")[2]
    if root is None:
        raise InputError(f"--recipe {recipe.name} needs --data ROOT, the folder of {name}.")
    dataset = open_dataset(name, root, "train")
    if len(dataset.classes) != classes:
        raise InputError(
            f"{name} has masks of {len(dataset.classes)} classes, but {recipe.name} has {classes}. "
            "Give a recipe of the SCLIP family."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset.samples))[:limit])
    return [dataset.samples[i] for i in chosen]


def _read_samples(samples: Sequence["Sample"]) -> Iterator["LabelledImage"]:
    for sample in samples:
        if sample.read_mask is not None:
            yield sample.read_image(), sample.read_mask()


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

"""The options of `tagmask mask`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.arguments import (
    background_words,
    load_weights,
    read_descriptions,
    read_templates,
    read_words,
    require_words,
)
from tagmask.cli.console import report_errors
from tagmask.cli.engine import (
    EngineName,
    EngineOption,
    EnginePrecision,
    EnginePrecisionOption,
    Int8Images,
    read_engine,
)
from tagmask.cli.options import (
    ActivationOption,
    Affinity,
    Again,
    AsOption,
    Background,
    Device,
    HeadOption,
    NoBackground,
    Paths,
    Purify,
    RecipeName,
    Refine,
    ShardOption,
    Templates,
    Weights,
    Words,
    Workers,
)

__all__ = ["mask"]


def mask(
    paths: Paths,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The run folder: masks, overlays, run.db.")
    ],
    word: Words = None,
    student: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A student trained by `tagmask train student`, which knows its words; in place of -w and "
            "--weights.",
        ),
    ] = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: RecipeName = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Mask method: sclip, sc-clip, naclip, clip, ... (see `tagmask methods`), or cls-seg.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Draw these methods side by side, as in clip,maskclip,sclip: a picture per image in "
            "DIR/compare, and no masks.",
        ),
    ] = None,
    only_tags: Annotated[
        bool, typer.Option("--only-tags", help="Mask only the words that the tagger finds in the image.")
    ] = False,
    tags_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Mask only these tags. Lines: IMAGE INDEX INDEX ... (as `tag --format paper` writes).",
        ),
    ] = None,
    affinity: Annotated[
        Affinity | None,
        typer.Option(
            metavar="NAME",
            help="cls-seg and clip-es: spread maps along attention (the default), or with cda also along "
            "the likeness of patches.",
        ),
    ] = None,
    proposals: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|sam2:MODEL",
            help="Give each region of another program one word: a folder with NAME.json (run lengths, as "
            "SAM's), .npz or .png for each image, a COCO file, or a SAM: folder or OWNER/REPO.",
        ),
    ] = None,
    head: HeadOption = None,
    refine: Annotated[
        Refine | None,
        typer.Option(metavar="NAME", help="Refine masks: none, pamr, tlp or crf. Default: the recipe's."),
    ] = None,
    purify: Annotated[
        Purify | None,
        typer.Option(
            metavar="NAME",
            help="Drop words of which there is no trace in the image: scores (by their maps), tags (by their "
            "maps and tags) or off. Default: the recipe's.",
        ),
    ] = None,
    descriptions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --purify: sentences for every word, to choose between words of one region. JSON: "
            '{"cat": ["a sentence", ...], ...}.',
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="LIST", help="png, or with more formats of `tagmask export`, as in png,coco."
        ),
    ] = "png",
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE", help="Pixels whose best score is below it become background.", min=0, max=1
        ),
    ] = None,
    background: Background = None,
    no_background: NoBackground = False,
    templates: Templates = None,
    overlay: Annotated[bool, typer.Option(help="Also draw the masks over the images.")] = True,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also write report.html: images and masks, least confident first."),
    ] = False,
    keep_features: Annotated[
        bool,
        typer.Option(
            "--keep-features",
            help="Also write DIR/features: then `tagmask review` redraws masks without the image tower.",
        ),
    ] = False,
    again: Again = False,
    shard: ShardOption = None,
    as_: AsOption = None,
    workers: Workers = 2,
    device: Device = "auto",
    precision: EnginePrecisionOption = EnginePrecision.auto,
    engine: EngineOption = EngineName.torch,
    int8_images: Int8Images = None,
) -> None:
    """Mask the words in each image: write an index PNG and an overlay.

    Give the same command again to go on after a stop, or to add new images:
    images that are done are skipped.

    Every pixel is compared with the words and with a list of background words
    (sky, wall, grass, ...). It becomes background if a background word scores
    highest or its best score is below --threshold. With --student FILE, a trained
    network masks the words of its training. With --compare clip,sclip, see what
    several methods make of your images before you choose one.
    """
    with report_errors():
        from tagmask.api import Segmenter
        from tagmask.cli.mask import mask_formats, mask_images, mask_settings, require_tags_file
        from tagmask.cli.maskers import (
            Masker,
            open_region_source,
            refuse_clip_options,
            segmenter_masker,
            student_masker,
        )
        from tagmask.pipelines.head import read_head
        from tagmask.resolve import mask_recipe
        from tagmask.runs.shards import parse_shard
        from tagmask.runtime.folders import find_images
        from tagmask.runtime.tag_files import read_tags

        chosen_engine, weights_precision = read_engine(engine, precision, int8_images)
        if compare is not None:
            from tagmask.cli.mask_compare import Comparer, check_recipes, compare_images, compared_methods

            run_options = {
                "--student": student is not None,
                "--method": method is not None,
                "--descriptions": descriptions is not None,
                "--head": head is not None,
                "--format": format_ != "png",
                "--report": report,
                "--no-overlay": not overlay,
                "--again": again,
                "--keep-features": keep_features,
                "--proposals": proposals is not None,
                "--shard": shard is not None,
                "--engine": engine is not EngineName.torch,
            }
            methods = compared_methods(compare, run_options)
            settings = mask_settings(None, threshold, only_tags, refine, purify=purify, affinity=affinity)
            words = require_words(read_words(word), recipe)
            shared = (words, recipe, background_words(background, no_background), as_ and as_.value, settings)
            count = check_recipes(methods, *shared, tags_given=tags_file is not None)
            failed = compare_images(
                find_images(paths),
                lambda: Comparer(
                    load_weights(weights, activation, device, weights_precision), methods, *shared
                ),
                out=out,
                tags=None if tags_file is None else read_tags(tags_file, count),
                about={"words": words, "recipe": recipe, "settings": settings},
            )
            raise typer.Exit(1 if failed else 0)
        tags = regions = None
        make_masker: Callable[[], Masker]
        if student is not None:
            clip_options = {
                "-w": word,
                "--recipe": recipe,
                "--method": method,
                "--weights": weights,
                "--activation": activation,
                "--background": background,
                "--no-background": no_background,
                "--templates": templates,
                "--only-tags": only_tags,
                "--tags-file": tags_file,
                "--affinity": affinity,
                "--proposals": proposals,
                "--head": head,
                "--refine": refine,
                "--purify": purify,
                "--descriptions": descriptions,
                "--keep-features": keep_features,
                "--as": as_,
                "--engine": chosen_engine,
            }
            refuse_clip_options(clip_options, weights_precision)
            make_masker = partial(student_masker, student, threshold=threshold, device=device)
        else:
            settings = mask_settings(
                method, threshold, only_tags, refine, recipe, read_templates(templates), purify, affinity
            )
            words = require_words(read_words(word), recipe)
            background_texts = background_words(background, no_background)
            quirks = as_ and as_.value
            # Resolve the recipe first: invalid settings must fail before any weights are loaded.
            resolved = mask_recipe(recipe, words, background_texts, quirks, settings)
            require_tags_file(resolved, tags_file)
            described = read_descriptions(
                descriptions, resolved.words, purifies=getattr(resolved, "purifies", False)
            )
            tags = None if tags_file is None else read_tags(tags_file, len(resolved.words))
            regions = open_region_source(proposals, device)

            learned = None if head is None else read_head(head)

            def words_masker() -> Masker:
                clip = load_weights(weights, activation, device, weights_precision)
                segmenter = Segmenter(
                    clip,
                    words,
                    recipe=recipe,
                    background=background_texts,
                    as_=quirks,
                    descriptions=described,
                    head=learned,
                    engine=chosen_engine,
                    **settings,
                )
                return segmenter_masker(segmenter, tags, regions)

            make_masker = words_masker
        failed = mask_images(
            find_images(paths),
            make_masker,
            out=out,
            overlays=overlay,
            formats=mask_formats(format_) | ({"report"} if report else set()),
            workers=workers,
            tags=tags,
            regions=regions,
            again=again,
            shard=None if shard is None else parse_shard(shard),
            keep_features=keep_features,
        )
    raise typer.Exit(1 if failed else 0)

"""What `tagmask look` does: reads points, looks, draws."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from tagmask.catalogue import dense_rule
from tagmask.cli.console import message
from tagmask.clip.load import Clip
from tagmask.dense.prompts import split_names, text_features
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.images import read_image
from tagmask.pipelines.attention_maps import WHOLE, check_points, patch_attention
from tagmask.report.attention import AttentionExample, attention_sheet
from tagmask.resolve import mask_recipe
from tagmask.types import TextFeatures

__all__ = ["DEFAULT_METHODS", "draw_attention", "read_points"]

DEFAULT_METHODS = ("clip", "maskclip", "sclip", "naclip", "sc-clip")
"""Methods shown where none are asked for."""
_ANY_DEPTH = 12
"""Layers, where a rule is made only to see that it can be."""
_POINT = re.compile(r"\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*", re.ASCII)
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def read_points(given: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Points written as "x,y", in pixels.

    Raises:
        InputError: something else.

    Example:
        >>> read_points(["120,80", "3, 4"])
        ((120, 80), (3, 4))
    """
    found = []
    for text in given:
        match = _POINT.fullmatch(text)
        if match is None:
            raise InputError(
                f"--at is {text!r}; give X,Y in whole pixels from the left and the top, as in --at 120,80"
            )
        found.append((int(match[1]), int(match[2])))
    return tuple(found)


def draw_attention(
    source: Path,
    at: Sequence[str],
    methods: Sequence[str],
    words: Sequence[str] | None,
    make: Callable[[], Clip],
    out: Path,
) -> None:
    """Draw the attention of the patches at some points of an image, and write it to `out`.

    Everything that can be wrong with the arguments is found before the weights are loaded.

    Raises:
        ImageError: an image that cannot be read.
        InputError: a point that is none or lies outside, an unknown method, an ending that is no picture's.
    """
    kind = _FORMATS.get(out.suffix.lower())
    if kind is None:
        raise InputError(f"--out is {str(out)!r}; give a file that ends in .png or .jpg")
    methods = tuple(dict.fromkeys(methods)) or DEFAULT_METHODS
    for method in methods:
        dense_rule(method, _ANY_DEPTH)
    image = read_image(source)
    points = read_points(at) or ((image.shape[1] // 2, image.shape[0] // 2),)
    check_points(points, (image.shape[0], image.shape[1]))
    if out.exists() and out.samefile(source):
        raise InputError(f"--out {out} is the image itself; give another file")
    clip = make()
    texts = None if not words else _text_features(clip, words)
    if texts is None:
        _note_first_pass(clip, methods)
    weights = patch_attention(clip, image, points, methods, WHOLE, texts)
    file = io.BytesIO()
    attention_sheet(AttentionExample(image, points, methods, weights)).save(file, kind)
    write_bytes(out, file.getvalue())
    typer.echo(str(out))


def _text_features(clip: Clip, words: Sequence[str]) -> TextFeatures:
    """Features of the words and of what is behind them, as masks of these words would use them."""
    recipe = mask_recipe(None, list(words), None, None, {}, clip.background)
    names = split_names([*recipe.background, *recipe.words])
    return text_features(clip, names.texts, recipe.templates)


def _note_first_pass(clip: Clip, methods: Sequence[str]) -> None:
    layers = len(clip.vision.blocks)
    twice = [name for name in methods if dense_rule(name, layers).second_pass is not None]
    if twice:
        message(
            f"note: {', '.join(twice)} looks twice, the second time with words in mind; "
            "give -w WORD to see that, here is the first look"
        )

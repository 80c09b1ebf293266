"""`tagmask attention`: compute and draw attention maps at points of an image."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import PIL.Image

from tagmask.catalogue import dense_rule
from tagmask.cli.console import message, print_path
from tagmask.clip.load import Clip
from tagmask.dense.prompts import split_names, text_features
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.images import read_image
from tagmask.papers.tagclip_settings import TagclipSettings
from tagmask.pipelines.attention_maps import WHOLE, check_points, layer_attention, patch_attention
from tagmask.report.attention import AttentionExample, attention_sheet, layer_sheet
from tagmask.resolve import mask_recipe
from tagmask.types import Image, TextFeatures

__all__ = ["DEFAULT_METHODS", "draw_attention", "draw_layers", "picture_format", "read_points"]

DEFAULT_METHODS = ("clip", "maskclip", "sclip", "naclip", "sc-clip")
"""Methods drawn by default."""
_ANY_DEPTH = 12
"""Number of layers used to validate a method's name before the weights are loaded."""
_POINT = re.compile(r"\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*", re.ASCII)
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def read_points(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Parse points written as "x,y", in pixels.

    Raises:
        InputError: a text is not a point.

    Example:
        >>> read_points(["120,80", "3, 4"])
        ((120, 80), (3, 4))
    """
    points = []
    for text in texts:
        match = _POINT.fullmatch(text)
        if match is None:
            raise InputError(
                f"Invalid point --at {text!r}. Give X,Y in whole pixels from the left and the top, "
                "as in --at 120,80."
            )
        points.append((int(match[1]), int(match[2])))
    return tuple(points)


def picture_format(out: Path) -> str:
    """Return the format of a picture to write, by its suffix.

    Raises:
        InputError: an unsupported suffix.
    """
    kind = _FORMATS.get(out.suffix.lower())
    if kind is None:
        raise InputError(
            f"Unsupported file type --out {str(out)!r}. Give a file name that ends in .png or .jpg."
        )
    return kind


def draw_attention(
    source: Path,
    at: Sequence[str],
    methods: Sequence[str],
    words: Sequence[str] | None,
    load_clip: Callable[[], Clip],
    out: Path,
) -> None:
    """Draw the attention maps of the patches at some points of an image, and write them to `out`.

    All arguments are validated before the weights are loaded.

    Raises:
        ImageError: the image cannot be read.
        InputError: an invalid or outside point, an unknown method, or an unsupported file suffix.
    """
    kind = picture_format(out)
    methods = tuple(dict.fromkeys(methods)) or DEFAULT_METHODS
    for method in methods:
        dense_rule(method, _ANY_DEPTH)
    image, points = _image_and_points(source, at, out)
    clip = load_clip()
    texts = None if not words else _text_features(clip, words)
    if texts is None:
        _note_second_pass(clip, methods)
    weights = patch_attention(clip, image, points, methods, WHOLE, texts)
    _write(attention_sheet(AttentionExample(image, points, methods, weights)), out, kind)


def draw_layers(source: Path, at: Sequence[str], load_clip: Callable[[], Clip], out: Path) -> None:
    """Draw the attention of the patches at some points by layer, and what TagCLIP makes of it.

    Raises:
        ImageError: the image cannot be read.
        InputError: an invalid or outside point, or an unsupported file suffix.
    """
    kind = picture_format(out)
    image, points = _image_and_points(source, at, out)
    names, weights = layer_attention(load_clip(), image, points, TagclipSettings())
    _write(layer_sheet(AttentionExample(image, points, names, weights)), out, kind)


def _image_and_points(
    source: Path, at: Sequence[str], out: Path
) -> tuple[Image, tuple[tuple[int, int], ...]]:
    image = read_image(source)
    points = read_points(at) or ((image.shape[1] // 2, image.shape[0] // 2),)
    check_points(points, (image.shape[0], image.shape[1]))
    if out.exists() and out.samefile(source):
        raise InputError(f"--out {out} is the input image. Give another file.")
    return image, points


def _write(sheet: PIL.Image.Image, out: Path, kind: str) -> None:
    file = io.BytesIO()
    sheet.save(file, kind)
    write_bytes(out, file.getvalue())
    print_path(out)


def _text_features(clip: Clip, words: Sequence[str]) -> TextFeatures:
    """Return the features of the words and the default background, as masking these words would use."""
    recipe = mask_recipe(None, list(words), None, None, {}, clip.background)
    names = split_names([*recipe.background, *recipe.words])
    return text_features(clip, names.texts, recipe.templates)


def _note_second_pass(clip: Clip, methods: Sequence[str]) -> None:
    layers = len(clip.vision.blocks)
    two_pass = [name for name in methods if dense_rule(name, layers).second_pass is not None]
    if two_pass:
        message(
            f"note: {', '.join(two_pass)} has a second pass that depends on words. "
            "Without -w WORD, its first pass is drawn."
        )

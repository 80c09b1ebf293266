"""Score maps as small pictures: where a word is felt, laid warm over the greyed picture."""

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from tagmask.errors import ShapeError
from tagmask.report.text import data_uri, escaped
from tagmask.types import Image

__all__ = ["heat_strip", "warmed"]

_LONGEST = 160
_COLD, _WARM = np.array([86, 108, 160.0]), np.array([255, 206, 64.0])


def heat_strip(
    image: UInt8[np.ndarray, "h w 3"], maps: Sequence[tuple[str, Float[np.ndarray, "_ _"]]]
) -> str:
    """One small picture a map, with its name; nothing where there are no maps.

    Args:
        image: the picture.
        maps: names and scores, of the picture's size; 0 is drawn cold and 1 warm.

    Raises:
        ShapeError: a map of another size.
    """
    if not maps:
        return ""
    pictures = "".join(
        f'<figure><img src="{_picture(image, scores, name)}" alt="Where {escaped(name)} is felt"'
        f' loading="lazy" decoding="async"><figcaption>{escaped(name)}</figcaption></figure>'
        for name, scores in maps
    )
    return f'<section class="heat"><h3>Activation maps</h3><div>{pictures}</div></section>'


def _picture(image: UInt8[np.ndarray, "h w 3"], scores: Float[np.ndarray, "_ _"], name: str) -> str:
    if scores.shape != image.shape[:2]:
        raise ShapeError(
            f"the map of {name} is {scores.shape} and the picture is {image.shape[:2]} (h, w); "
            "give one of the picture's size"
        )
    step = -(-max(scores.shape) // _LONGEST)
    file = io.BytesIO()
    shown = PIL.Image.fromarray(warmed(image[::step, ::step], scores[::step, ::step]))
    shown.save(file, "JPEG", quality=85, optimize=True)
    return data_uri("image/jpeg", file.getvalue())


def warmed(image: Image, scores: Float[np.ndarray, "h w"]) -> Image:
    """The picture in cold and warm: scores of 0 are blue, of 1 yellow.

    The picture stays readable: its light modulates the colour, of warm places less, so that they stand out of
    the dark too.
    """
    light = image.mean(axis=2, keepdims=True) / 255
    warmth = np.clip(np.nan_to_num(scores), 0, 1)[..., None]
    colour = _COLD + (_WARM - _COLD) * warmth
    least = 0.5 + 0.3 * warmth
    shown: Image = (colour * (least + (1 - least) * light)).astype(np.uint8)
    return shown

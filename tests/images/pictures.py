"""Pictures for the tests of reading, and rules written as loops."""

import io

import numpy as np
import PIL.ExifTags
import PIL.Image


def photo(h: int = 5, w: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def smooth(h: int = 48, w: int = 64) -> np.ndarray:
    y, x = np.mgrid[:h, :w]
    return np.stack([255 * y / h, 255 * x / w, 128 + 0 * x], axis=2).astype(np.uint8)


def encoded(image: PIL.Image.Image | np.ndarray, format_: str, **options: object) -> bytes:
    image = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def exif_of(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


def upright_oracle(stored: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF 2.3, table of orientation: which side of the scene row 0 and column 0 of the file are."""
    sides = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }  # fmt: skip
    row0, col0 = sides[orientation]
    n_rows, n_cols = stored.shape[:2]
    swapped = row0 in ("left", "right")
    h, w = (n_cols, n_rows) if swapped else (n_rows, n_cols)
    scene = np.zeros((h, w, 3), np.uint8)
    for i in range(n_rows):
        for j in range(n_cols):
            along = {row0: i, col0: j}
            y = along["top"] if "top" in along else h - 1 - along["bottom"]
            x = along["left"] if "left" in along else w - 1 - along["right"]
            scene[y, x] = stored[i, j]
    return scene


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    out = np.zeros_like(rgb)
    for index in np.ndindex(*rgb.shape):
        a = alpha[index[:2]] / 255
        out[index] = round(float(rgb[index]) * a + 255 * (1 - a))
    return out


def close(a: np.ndarray, b: np.ndarray, atol: int) -> bool:
    return a.shape == b.shape and int(np.abs(a.astype(int) - b.astype(int)).max()) <= atol

"""What the pages show of the classes in a mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tagmask.masks import IndexMap

__all__ = ["described_classes", "pixels_of"]


def pixels_of(labels: IndexMap, words: Sequence[str]) -> dict[str, int]:
    """Pixels of each word that is in a mask, in the order of the words."""
    counts: Any = np.bincount(labels.ravel(), minlength=len(words))[: len(words)]
    return {word: int(count) for word, count in zip(words, counts, strict=True) if count}


def described_classes(
    words: Sequence[str], pixels: Mapping[str, int], size: int, confidence: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    """Describe each class that has pixels: its label, word, share and confidence.

    Args:
        words: the name of each label.
        pixels: of the words that are in the mask.
        size: pixels of the image.
        confidence: of each word, if it is known.
    """
    return [
        {
            "label": label,
            "word": word,
            "share": pixels[word] / size,
            "confidence": (confidence or {}).get(word),
        }
        for label, word in enumerate(words)
        if word in pixels
    ]

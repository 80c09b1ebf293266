"""Masks for the tools: those that a format may lose something of, and the exact masks of drawn scenes."""

import numpy as np

from tagmask.miniature.evaluation_scenes import unseen_scene
from tests.bridges.openings import Masks
from tests.exporters.made_runs import masks

__all__ = ["WORDS", "label_maps", "truth_of"]

WORDS = ("background", "cat", "dog", "traffic light", "кот")


def label_maps(scenes: int = 4) -> dict[str, np.ndarray]:
    """Return label maps of `WORDS` by the name of their image."""
    drawn = {
        f"scenes/scene {seed}.png": (unseen_scene(seed).labels % len(WORDS)).astype(np.uint8)
        for seed in range(scenes)
    }
    return masks() | drawn


def truth_of(labels: dict[str, np.ndarray], words: tuple[str, ...] = WORDS) -> Masks:
    """Return the pixels of each word, without the background."""
    return {
        name: {word: mask == label for label, word in enumerate(words) if label and (mask == label).any()}
        for name, mask in labels.items()
    }

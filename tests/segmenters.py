"""Segmenters of both kinds with a few own words, for the tests of pipelines."""

import numpy as np

import tagmask
from tagmask.clip.load import Clip

WORDS = ["cat", "dog, puppy", "bicycle", "boat"]
BACKGROUND = ["wall", "grass"]
KINDS = ("cls-seg", "dense")


def made(clip: Clip, kind: str, **settings: object) -> tagmask.Segmenter:
    """Own words: tags masked, or all words compared with half the usual pixels."""
    usual: dict[str, object] = {"words": WORDS, "background": BACKGROUND}
    if kind == "cls-seg":
        usual |= {"method": "cls-seg"}
    else:
        usual |= {"among": "tags", "templates": ("a {}.",), "short_side": 112, "crop": 112}
    return tagmask.Segmenter(clip, **{**usual, **settings})


def scores_of(seg: tagmask.Segmentation) -> np.ndarray:
    assert seg.scores is not None
    return seg.scores

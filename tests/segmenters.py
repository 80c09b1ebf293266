"""Segmenters of both kinds with a few words, for the tests of pipelines."""

import numpy as np

import tagmask
from tagmask.clip.load import Clip

WORDS = ["cat", "dog, puppy", "bicycle", "boat"]
BACKGROUND = ["wall", "grass"]
KINDS = ("cls-seg", "dense")


def make_segmenter(clip: Clip, kind: str, **settings: object) -> tagmask.Segmenter:
    """CLS-SEG, or SCLIP among tags with half the default number of pixels."""
    defaults: dict[str, object] = {"words": WORDS, "background": BACKGROUND}
    if kind == "cls-seg":
        defaults |= {"method": "cls-seg"}
    else:
        defaults |= {"among": "tags", "templates": ("a {}.",), "short_side": 112, "crop": 112}
    return tagmask.Segmenter(clip, **{**defaults, **settings})


def scores_of(seg: tagmask.Segmentation) -> np.ndarray:
    assert seg.scores is not None
    return seg.scores

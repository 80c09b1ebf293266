"""The model for FiftyOne, with FiftyOne's own classes, but without its database. Run by `make bridges`."""

import json
from pathlib import Path

import numpy as np
import pytest

import tagmask
from tagmask.miniature.evaluation_scenes import unseen_scene
from tests.bridges.environments import read_answer, run_program

pytestmark = pytest.mark.bridges

WORDS = ["cat", "fish, goldfish", "car", "boat"]


def test_labels_are_those_of_the_tagger_and_the_segmenter(tmp_path: Path) -> None:
    out = tmp_path / "masks.npz"
    printed = json.loads(run_program("fiftyone", "predict_fiftyone.py", out, tagmask=True))
    library, read = read_answer(out)
    print(library)
    clip = tagmask.load("miniature", device="cpu")
    tagger, segmenter = tagmask.Tagger(clip, WORDS), tagmask.Segmenter(clip, WORDS)
    assert printed["targets"] == [[1, "cat"], [2, "fish"], [3, "car"], [4, "boat"]]
    for seed in (1, 2):
        image, name = unseen_scene(seed).image, f"scene {seed}.png"
        seg, tags = segmenter(image), tagger(image)
        assert set(read[name]) == {seg.words[region.label] for region in seg.regions("class")} != set()
        for region in seg.regions("class"):
            np.testing.assert_array_equal(
                read[name][seg.words[region.label]],
                region.full(seg.labels.shape),  # type: ignore[arg-type]
            )
        expected = {tags.words[c]: float(tags.scores[c]) for c in tags.chosen}
        assert printed["tags"][name] == pytest.approx(expected, abs=1e-5)
    # Without a background every pixel has a word, and none has the value 0.
    segmenter = tagmask.Segmenter(clip, WORDS, background=[], method="maskclip")
    assert printed["everywhere"] == sorted(segmenter(unseen_scene(1).image).pixels())

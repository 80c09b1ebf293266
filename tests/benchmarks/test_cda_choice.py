"""The script that chooses CDA's settings: its scenes, and its tables on a few of them."""

import numpy as np
import pytest

import tagmask
from benchmarks import cda_choice
from tagmask.miniature.evaluation_scenes import SIZES, is_held_out_style
from tagmask.miniature.scenes import is_held_out_colour


def test_scenes_to_choose_on_are_of_the_training_split() -> None:
    for seed in range(8):
        scene = cda_choice.training_scene(seed)
        assert scene.labels.shape == SIZES[seed % 4]
        for thing in scene.plan.things:
            assert not is_held_out_style(thing)
            assert not is_held_out_colour(thing.kind, thing.colour)
    np.testing.assert_array_equal(cda_choice.training_scene(3).image, cda_choice.training_scene(3).image)


def test_the_best_choice_is_scored_beside_the_rows_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cda_choice, "TAUS", (0.003, 10.0))
    monkeypatch.setattr(cda_choice, "STEPS", (1,))
    monkeypatch.setattr(cda_choice, "SIZES", ((96, 112),))
    clip = tagmask.load("miniature", device="cpu")
    best, grid = cda_choice.chosen(clip, 2)
    assert best in cda_choice.choices()
    assert len(cda_choice.choices()) == 4
    cells = [float(line.split("|")[3].strip(" *").split(" ")[0]) for line in grid[2:6]]
    (bold,) = [number for number, line in enumerate(grid[2:6]) if "**" in line]
    assert cells[bold] == max(cells) > min(cells)
    lines = list(cda_choice.scored(clip, [cda_choice.training_scene(0)], best))
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "CLIP-ES (true tags)",
        "CLIP-ES + CRF",
        "CLS-SEG",
        "CLS-SEG + CRF",
    ]

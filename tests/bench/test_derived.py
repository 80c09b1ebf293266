"""Means and gains: computed from the right runs, or not at all."""

import math

import pytest

from tagmask.bench.catalogue import Cell, protocol_of, table
from tagmask.bench.derived import Measured, computed
from tagmask.settings.recipes import MaskRecipe

EIGHT = ["voc21", "context60", "coco-object", "voc20", "cityscapes", "context59", "ade20k", "coco-stuff"]


def cell(name: str, row: str, column: str) -> Cell:
    (found,) = (c for c in table(name).cells if (c.row, c.column.key) == (row, column))
    return found


def test_the_mean_of_eight_is_the_mean_of_the_rows_own_runs() -> None:
    mean = cell("sclip-1", "MaskCLIP", "average")
    assert [part.recipe for part in mean.plus] == [f"sclip/{name}" for name in EIGHT]
    assert {part.settings for part in mean.plus} == {("method=maskclip",)}
    assert mean.minus == ()
    assert mean.command == "table sclip-1"
    results = {part: Measured(float(i)) for i, part in enumerate(mean.plus)}
    assert computed(mean, results) == Measured(3.5)


def test_a_gain_by_pamr_subtracts_the_same_runs_without_it() -> None:
    gain = cell("sclip-1-quoted", "MaskCLIP", "pamr-gain")
    for refined, plain in zip(gain.plus, gain.minus, strict=True):
        with_pamr, without = protocol_of(refined), protocol_of(plain)
        assert with_pamr is not None
        assert without is not None
        assert isinstance(with_pamr.recipe, MaskRecipe)
        assert isinstance(without.recipe, MaskRecipe)
        assert (with_pamr.recipe.pamr_steps, without.recipe.pamr_steps) == (10, 0)
        assert (with_pamr.recipe.method, without.recipe.method) == ("maskclip", "maskclip")
        assert with_pamr.recipe.words == without.recipe.words
    results = {part: Measured(40.0) for part in gain.plus} | {
        part: Measured(36.0 + i) for i, part in enumerate(gain.minus)
    }
    assert computed(gain, results) == Measured(0.5)


def test_a_gain_over_another_row_subtracts_that_row() -> None:
    gain = cell("sclip-ablations", "sharper attention, divisor 2", "gain-voc21")
    assert [(part.recipe, part.settings) for part in (*gain.plus, *gain.minus)] == [
        ("sclip/voc21", ("method=clip-sharp", "divisor=2.0")),
        ("sclip/voc21", ("method=clip",)),
    ]
    result = computed(gain, {gain.plus[0]: Measured(21.7), gain.minus[0]: Measured(18.8)})
    assert isinstance(result, Measured)
    assert result.value == pytest.approx(2.9)


def test_without_every_run_there_is_no_mean_and_the_missing_ones_are_named() -> None:
    mean = cell("sclip-1", "SCLIP+PAMR", "average")
    results: dict[Cell, Measured | str] = {part: Measured(30.0) for part in mean.plus}
    results[mean.plus[1]] = "No folder is given for context60."
    results[mean.plus[6]] = Measured(math.nan)
    assert computed(mean, results) == (
        "no result for sclip+pamr/context60 (No folder is given for context60); "
        "sclip+pamr/ade20k (nothing to score)"
    )


def test_a_mean_of_partial_runs_is_partial() -> None:
    mean = cell("sclip-1", "SCLIP", "average")
    results = {part: Measured(30.0) for part in mean.plus}
    results[mean.plus[0]] = Measured(38.0, ("2 of 9 images failed",))
    assert computed(mean, results) == Measured(31.0, ("sclip/voc21: 2 of 9 images failed",))


def test_figures_of_other_networks_are_not_computed() -> None:
    for name, row, column in (
        ("sclip-1-quoted", "TCL", "average"),
        ("sclip-1-quoted", "GroupViT", "pamr-gain"),
    ):
        cited = cell(name, row, column)
        assert (cited.plus, cited.minus, cited.command) == ((), (), None)

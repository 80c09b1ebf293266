"""Everything between the pixels and the scores of the classes stays on the model's device.

The meta device stands for a GPU: it refuses tensors of the processor in its operations, and has no values
that could be read in between. Only the checks for NaN read one; here they find nothing wrong.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.cosine_maps import CosineMaps, stitch
from tagmask.dense.labels import class_scores
from tagmask.dense.prompts import split_names
from tagmask.dense.propagation import propagate_maps
from tagmask.dense.sliding import SlidingSettings, plan_image, stitching, window_batches, window_cosines
from tagmask.dense.windows import tile_windows
from tests.dense_methods import DENSE, NEED_A_FILE

META = torch.device("meta")
NAMES = split_names(["cat", "dog, puppy", "boat"])
SIZE = (70, 90)


@pytest.fixture
def elsewhere(variants_model: Clip, monkeypatch: pytest.MonkeyPatch) -> Clip:
    """A CLIP on the meta device, whose answers to checks are always yes."""
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: True)
    bag = functional.embedding_bag

    def checked_bag(indices: Tensor, values: Tensor, **settings: Any) -> Tensor:
        # The one operation here that does not refuse the processor's tensors on this device.
        assert {indices.device, values.device, settings["per_sample_weights"].device} == {META}
        return bag(indices, values, **settings)

    monkeypatch.setattr(functional, "embedding_bag", checked_bag)
    vision, text = (deepcopy(tower).to(META) for tower in (variants_model.vision, variants_model.text))
    return replace(variants_model, vision=vision, text=text, device=META)


def texts_of(clip: Clip) -> torch.Tensor:
    return torch.empty(len(NAMES.texts), clip.geometry.embed, device=META)


@pytest.mark.parametrize("method", [method for method in DENSE if method not in NEED_A_FILE])
def test_cosines_of_windows_are_computed_on_the_device(elsewhere: Clip, method: str) -> None:
    rule = dense_rule(method, len(elsewhere.vision.blocks))
    windows = torch.empty(2, 3, 96, 96, device=META)
    with torch.inference_mode():
        (cosines,) = window_cosines(elsewhere, windows, texts_of(elsewhere), SlidingSettings(), [rule])
    assert cosines.shape == (2, len(NAMES.texts), 6, 6)
    assert cosines.device == META


@pytest.mark.parametrize("with_nan", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"pamr_steps": 2}, {"tlp_steps": 2}, {"pad_windows": True}, {"crop": None, "two_resizes": True}],
    ids=str,
)
def test_scores_of_pixels_are_computed_on_the_device(
    elsewhere: Clip, changes: dict[str, object], with_nan: bool
) -> None:
    settings = SlidingSettings(**{"short_side": 100, "crop": 64, "stride": 32, **changes})
    pixels = torch.empty(3, 100, 129, device=META)
    plan = plan_image(pixels, settings)
    rule = dense_rule("sclip", len(elsewhere.vision.blocks))
    with torch.inference_mode():
        maps = torch.cat(
            [
                window_cosines(elsewhere, windows, texts_of(elsewhere), settings, [rule])[0]
                for _, windows in window_batches([pixels], [plan])
            ]
        )
        grid = (maps.shape[-2], maps.shape[-1])
        down, across = stitching(plan, grid, pixels, SIZE, settings, elsewhere.vision.patch)
        # The check for NaN is answered yes, too.
        stitched = (
            stitch(maps, plan, down, across, pixels)
            if with_nan
            else CosineMaps(tile_windows(maps, plan), down, across, pixels)
        )
        if settings.tlp_steps:
            stitched = propagate_maps(stitched, texts_of(elsewhere), settings)
        strips = list(class_scores(stitched, NAMES, settings))
    assert [(top, bottom) for top, bottom, _ in strips] == [(0, SIZE[0])]
    assert strips[0][2].shape == (len(NAMES.classes), *SIZE)
    assert strips[0][2].device == META

"""Models of other sizes, and what is accepted as one."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tagmask
from tagmask.clip.load import as_clip
from tagmask.errors import InputError
from tagmask.papers import tagclip
from tests.golden import make_weights, make_weights_variants

GEOMETRIES = {
    "patch 32": {"patch": 32},
    "patch 14": {"patch": 14, "v_layers": 24},
    "336 input": {"patch": 14, "res": 336, "v_layers": 4},
    "2 layers": {"v_layers": 2},
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_other_vision_transformers_run(geometry: str, shapes: list[np.ndarray], tmp_path: Path) -> None:
    config = {**make_weights.CFG, **GEOMETRIES[geometry]}
    torch.save(make_weights.make_state_dict(cfg=config), tmp_path / "w.pt")
    clip = tagmask.load(tmp_path / "w.pt", device="cpu")
    assert clip.geometry.patch == config["patch"]
    tags = tagmask.Tagger(clip, ["cat", "dog", "boat"], templates=("{}",))(shapes[0])
    assert np.isfinite(tags.scores).all()
    assert 0 < tags.scores.max() <= 1
    for method in ("sclip", "maskclip"):
        seg = tagmask.Segmenter(clip, ["cat", "dog", "boat"], templates=("{}",), method=method)(shapes[0])
        assert seg.labels.shape == shapes[0].shape[:2]


def test_layers_and_votes_follow_the_depth() -> None:
    assert tagclip.scaled_layers(range(11), 12) == list(range(11))
    assert tagclip.scaled_layers((8, 9, 10), 24) == [16, 17, 18, 19, 20, 21]
    assert tagclip.scaled_layers((8, 9, 10), 4) == [2]
    assert tagclip.scaled_layers((8, 9, 10), 1) == [0]
    assert [tagclip.needed_votes(4, depth) for depth in (12, 24, 4, 1)] == [4, 8, 2, 1]


def test_deep_towers_give_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = make_weights_variants.make()
    for name, value in list(tensors.items()):
        if name.startswith("visual.transformer.resblocks."):
            _, _, _, layer, rest = name.split(".", 4)
            tensors[f"visual.transformer.resblocks.{int(layer) + 12}.{rest}"] = value
    torch.save(
        {name: torch.tensor(np.asarray(value)) for name, value in tensors.items()}, tmp_path / "deep.pt"
    )
    clip = tagmask.load(tmp_path / "deep.pt", activation="quickgelu")
    image = np.zeros((40, 60, 3), np.uint8)

    def warnings(**settings: object) -> str:
        caplog.clear()
        segmenter = tagmask.Segmenter(clip, recipe="sclip/voc20", templates=("{}.",), **settings)
        assert segmenter(image).labels.shape == (40, 60)
        return " ".join(record.getMessage() for record in caplog.records)

    assert warnings(method="sclip") == ""
    assert "naclip is weaker on large weights (published: VOC21 52.2 on L/14" in warnings(method="naclip")
    scaled = warnings(method="sc-clip")
    assert "sc-clip refers to layers of a 12-layer tower; " in scaled
    assert "deep.pt has 24. Layers at the same relative depth are used" in scaled
    assert "weaker" not in scaled
    assert warnings(method="sc-clip", as_="published") == ""


def test_weights_are_accepted_by_name_and_path(sclip_weights: Path, shapes: list[np.ndarray]) -> None:
    tagger = tagmask.Tagger("miniature", words=["cat", "hat"])
    assert tagger.clip.name == "miniature"
    segmenter = tagmask.Segmenter(sclip_weights, words=["cat", "hat"])
    given = tagmask.Segmenter(tagmask.load(sclip_weights), words=["cat", "hat"])
    np.testing.assert_array_equal(segmenter(shapes[0]).labels, given(shapes[0]).labels)


@pytest.mark.parametrize("other", [["cat"], None, b"miniature"])
def test_other_first_arguments_are_refused(other: object) -> None:
    with pytest.raises(InputError, match=r"^Expected a CLIP first, not .*\. Give what tagmask\.load returns"):
        as_clip(other)

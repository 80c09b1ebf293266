"""CDA's affinity in CLIP-ES and CLS-SEG: which features it reads, which settings it follows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.papers import clip_es
from tagmask.papers.clip_es import ClassTexts, ClipEsSettings
from tagmask.papers.tagclip import patch_cosines
from tagmask.refine.affinity import balanced
from tagmask.refine.cda import class_distributions, combined, distribution_affinity
from tagmask.runs.describe import segmenter_identity
from tests.cli.running import run
from tests.segmenters import make_segmenter

CDA: dict[str, Any] = {"affinity": "cda", "cda_tau": 0.002, "cda_steps": 3, "cda_combination": "product"}


@pytest.fixture
def texts(tagclip_model: Clip) -> ClassTexts:
    width = tagclip_model.vision.proj.shape[1]
    features = torch.randn(7, width, generator=torch.Generator().manual_seed(0))
    features = torch.nn.functional.normalize(features, dim=1)
    return ClassTexts(features[:4], features[4:])


@pytest.mark.parametrize("combination", ["product", "elementwise"])
def test_maps_are_spread_along_the_combined_affinity_without_boxes(
    combination: str, tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]
) -> None:
    settings = ClipEsSettings(**{**CDA, "cda_combination": combination}, max_patches=100)
    tower = clip_es.encode_image(tagclip_model, shapes[0], settings)
    found = clip_es.tag_maps(tagclip_model, tower, texts, [2, 0], settings)
    maps = clip_es.activation_maps(tagclip_model, tower, texts, [2, 0], settings)
    every = torch.cat([texts.foreground, texts.background])  # not only the tags
    cosines = patch_cosines(tower, every, keep_attention=False)
    affinity = combined(
        distribution_affinity(class_distributions(cosines), 0.002),
        balanced(clip_es.patch_attention(tower, settings)),
        combination,
    )
    expected = affinity.spread(maps.flatten(1), times=3).view_as(maps)
    torch.testing.assert_close(found, clip_es.min_max_scaled(expected))
    boxed = clip_es.tag_maps(tagclip_model, tower, texts, [2, 0], ClipEsSettings(max_patches=100))
    assert (found - boxed).abs().max() > 0.01


@pytest.mark.parametrize("change", [{"cda_tau": 0.1}, {"cda_steps": 1}, {"cda_combination": "elementwise"}])
def test_every_setting_counts_with_cda_only(
    change: dict[str, Any], tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    def cams(**settings: Any) -> np.ndarray:
        segmenter = make_segmenter(tagclip_model, "cls-seg", min_patches=64, max_patches=100, **settings)
        found = segmenter(shapes[0], tags=[2, 0], cams=True).cams
        assert found is not None
        return found

    def fingerprint(**settings: Any) -> str:
        return segmenter_identity(make_segmenter(tagclip_model, "cls-seg", **settings)).fingerprint

    assert (cams(**CDA) != cams(**{**CDA, **change})).any()
    np.testing.assert_array_equal(cams(), cams(**change))
    assert fingerprint(**CDA) != fingerprint(**{**CDA, **change})
    assert fingerprint() == fingerprint(**change)
    assert fingerprint() != fingerprint(**CDA)


def test_runs_without_cda_have_the_settings_that_they_had(tagclip_model: Clip) -> None:
    identity = segmenter_identity(make_segmenter(tagclip_model, "cls-seg"))
    settings = identity.fields["settings"]
    assert isinstance(settings, dict)
    assert not {"affinity", "cda_tau", "cda_steps", "cda_combination"} & settings.keys()
    with_cda = segmenter_identity(make_segmenter(tagclip_model, "cls-seg", affinity="cda"))
    assert isinstance(with_cda.fields["settings"], dict)
    assert with_cda.fields["settings"]["affinity"] == "cda"


def test_dense_methods_have_no_affinity(tagclip_model: Clip) -> None:
    with pytest.raises(InputError, match=r"Unknown setting affinity .* it belongs to cls-seg, clip-es"):
        tagmask.Segmenter(tagclip_model, ["cat"], method="sclip", affinity="cda")


@pytest.mark.parametrize("kind", ["mask", "seeds"])
def test_the_commands_take_it(kind: str, tagclip_weights: Path, tmp_path: Path, shapes: list[Any]) -> None:
    from PIL import Image as PILImage

    (tmp_path / "photos").mkdir()
    PILImage.fromarray(shapes[0][40:100, 30:110]).save(tmp_path / "photos" / "a.png")
    (tmp_path / "tags.txt").write_text("a 1 0\n")
    command = ["mask"] if kind == "mask" else ["train", "seeds"]
    common = [*command, tmp_path / "photos", "-w", "cat", "-w", "dog", "-b", "wall", "--method", "cls-seg"]
    common += ["--tags-file", tmp_path / "tags.txt", "--weights", tagclip_weights, "--precision", "float32"]
    done = run(*common, "--affinity", "cda", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    fields = json.loads((tmp_path / "out" / "run.json").read_text())["fields"]
    assert fields["settings"]["affinity"] == "cda"
    labels = np.array(PILImage.open(tmp_path / "out" / "masks" / "a.png"))
    clip = tagmask.load(tagclip_weights, device="cpu")
    segmenter = tagmask.Segmenter(clip, ["cat", "dog"], background=["wall"], method="cls-seg", affinity="cda")
    expected = segmenter(tmp_path / "photos" / "a.png", tags=[1, 0]).labels
    np.testing.assert_array_equal(labels, expected)


def test_seeds_from_files_have_no_cda(tmp_path: Path, shapes: list[Any]) -> None:
    from PIL import Image as PILImage

    PILImage.fromarray(shapes[0]).save(tmp_path / "a.png")
    done = run(
        "train", "seeds", tmp_path, "-w", "cat", "--cams", tmp_path, "--affinity", "cda", "-o", tmp_path
    )
    assert done.exit_code == 2
    assert "--affinity cda is for maps of a CLIP" in " ".join(done.stderr.split())

"""Heads: fitted to masks, applied to scores, written to files, refused for others."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError, ShapeError
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.head import Head, read_head, write_head
from tagmask.pipelines.head_fitting import HeadFitting, fit_to_itself, patch_rows, pool_matrix
from tagmask.resolve import mask_recipe
from tagmask.runs.describe import segmenter_identity
from tagmask.settings.recipes import MaskRecipe
from tests.segmenters import BACKGROUND, WORDS, scores_of

SETTINGS: dict[str, object] = {"templates": ("a {}.",), "short_side": 112, "crop": 64, "stride": 32}


def recipe_of(**changed: object) -> MaskRecipe:
    recipe = mask_recipe(None, WORDS, BACKGROUND, overrides={**SETTINGS, **changed})
    assert isinstance(recipe, MaskRecipe)
    return recipe


def head_of(clip: Clip, scale: float = 1.0, **changed: object) -> Head:
    matrix = torch.randn(clip.geometry.embed, 5, generator=torch.Generator().manual_seed(0)) * scale
    return Head.of(matrix, clip, recipe_of(**changed), penalty=1.0, images=2, origin="masks")


def segmenter_of(clip: Clip, head: Head | None = None, **changed: object) -> tagmask.Segmenter:
    return tagmask.Segmenter(clip, WORDS, background=BACKGROUND, head=head, **{**SETTINGS, **changed})


def test_a_head_adds_to_the_probabilities(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    """Per window, averaged as the cosines are; for the tags' classes only; also from frozen features."""
    image, head = shapes[1][:120, :90], head_of(tagclip_model)
    plain, corrected = segmenter_of(tagclip_model), segmenter_of(tagclip_model, head)
    added = scores_of(corrected(image, scores=True)) - scores_of(plain(image, scores=True))
    windows = plain.freeze(image)._windows
    query = plain._pipeline.query  # type: ignore[attr-defined]
    features = windows.features(query.features, 40.0)
    expected = windows.down @ torch.einsum("erc,ek->krc", features, head.matrix) @ windows.across.T
    assert np.allclose(added, expected.numpy(), atol=1e-5)
    assert not np.array_equal(corrected(image).labels, plain(image).labels)
    tagged = scores_of(corrected(image, scores=True, tags=[2])) - scores_of(
        plain(image, scores=True, tags=[2])
    )
    assert np.allclose(tagged[[0, 3]], added[[0, 3]], atol=1e-5)
    assert not tagged[[1, 2, 4]].any()
    frozen = corrected.freeze(image)(prob_thd=0.4, scores=True)
    again = segmenter_of(tagclip_model, head, prob_thd=0.4)(image, scores=True)
    assert np.array_equal(scores_of(frozen), scores_of(again))


@pytest.mark.parametrize("settings", [{}, {"join": "tokens"}, {"pamr_steps": 2}, {"crf": "cls-seg"}])
def test_a_head_without_corrections_changes_nothing(
    tagclip_model: Clip, shapes: list[np.ndarray], settings: dict[str, object]
) -> None:
    image = shapes[1][:60, :80]
    zero = head_of(tagclip_model, 0.0, **settings)
    plain = segmenter_of(tagclip_model, **settings)(image, confidence=True)
    same = segmenter_of(tagclip_model, zero, **settings)(image, confidence=True)
    assert np.array_equal(plain.labels, same.labels)
    assert plain.class_confidence == same.class_confidence


def test_confidences_stay_within_bounds(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    seg = segmenter_of(tagclip_model, head_of(tagclip_model, 9.0))(shapes[1][:60, :80], confidence=True)
    assert seg.class_confidence is not None
    assert all(0 <= value <= 1 for value in seg.class_confidence.values())
    assert max(seg.class_confidence.values()) > 0.9


def test_rows_are_means_over_the_patches(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    """112 x 149 pixels after scaling are 7 x 9 cells; unknown pixels count in no mean."""
    image = np.ascontiguousarray(shapes[1][:48, :64])
    pipeline = DensePipeline(tagclip_model, recipe_of())
    labels = np.random.default_rng(0).integers(0, 5, image.shape[:2])
    labels[:7] = 255
    rows = patch_rows(pipeline, pipeline.freeze(image), labels)
    scores = scores_of(segmenter_of(tagclip_model)(image, scores=True))
    cell = labels[34:42, 0:8] == 2  # the first cell of the sixth row: pixels 34.3 to 41.1, and 0 to 7.1
    assert rows.truth[45, 2] == pytest.approx(cell.mean(), abs=1e-5)
    assert rows.scores[45].numpy() == pytest.approx(scores[:, 34:42, 0:8].mean(axis=(1, 2)), abs=1e-5)
    assert rows.weights.tolist() == pytest.approx([0.0] * 9 + [7 / 8] * 9 + [1.0] * 45)
    assert rows.features.shape == (63, tagclip_model.geometry.embed)


def test_pooling_few_pixels_to_more_cells() -> None:
    assert pool_matrix(2, 3).tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]


def test_fitted_to_masks(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    """Masks that the frozen features can tell: after the fit the method gives nearly these masks."""
    pipeline = DensePipeline(tagclip_model, recipe_of())
    fitting = HeadFitting(pipeline, 2)
    images = [shapes[0][:100, :120], shapes[1][:120, :90]]
    masks = [np.where(image.mean(axis=2) > image.mean(), 3, 1) for image in images]
    for image, mask in zip(images, masks, strict=True):
        fitting.add(image, mask)
    fitted = fitting.fit()
    assert fitted.head.images == fitted.validation.images == 2
    corrected = segmenter_of(tagclip_model, fitted.head)
    plain = segmenter_of(tagclip_model)
    for image, mask in zip(images, masks, strict=True):
        assert (corrected(image).labels == mask).mean() > (plain(image).labels == mask).mean() + 0.2


def test_a_mask_of_another_size_is_refused(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    pipeline = DensePipeline(tagclip_model, recipe_of())
    with pytest.raises(ShapeError, match=r"The mask is \(3, 3\)"):
        HeadFitting(pipeline, 1).add(shapes[0], np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match="no corrected masks"):
        HeadFitting(pipeline, 0)


def test_fitted_to_itself(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    """Where the recipe is refined already, the masks to learn from are its own, and nothing is learned."""
    images = [shapes[0][:100, :120], shapes[1][:120, :90]]
    refined = DensePipeline(tagclip_model, recipe_of(pamr_steps=10))
    assert fit_to_itself(refined, images, rounds=1).head.is_zero
    plain = DensePipeline(tagclip_model, recipe_of())
    learned = fit_to_itself(plain, images, rounds=2)
    assert learned.validation.after >= learned.validation.before
    with pytest.raises(InputError, match="no images"):
        fit_to_itself(plain, [])


def test_files(tagclip_model: Clip, tmp_path: Path) -> None:
    head = replace(head_of(tagclip_model), penalty=math.inf)
    write_head(head, tmp_path / "head.safetensors")
    read = read_head(tmp_path / "head.safetensors")
    assert torch.equal(read.matrix, head.matrix)
    assert read.fingerprint == head.fingerprint
    assert (read.words, read.background, read.origin, read.images) == (
        tuple(WORDS),
        tuple(BACKGROUND),
        "masks",
        2,
    )
    assert math.isinf(read.penalty)
    read.check(tagclip_model, recipe_of(prob_thd=0.3, pamr_steps=3, crf="cls-seg"))


@pytest.mark.parametrize("kind", ["absent", "text", "foreign", "changed", "shape", "dtype", "nan", "words"])
def test_files_that_cannot_be_used(tagclip_model: Clip, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "head.safetensors"
    head = head_of(tagclip_model)
    write_head(head, file)
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    matrix = head.matrix.clone()
    if kind == "absent":
        file.unlink()
    elif kind == "text":
        file.write_text("hello")
    elif kind == "foreign":
        save_file({"matrix": matrix}, file, {"tagmask": "adaptation"})
    else:
        matrix[0, 0] += kind == "changed"
        matrix[0, 0] = math.nan if kind == "nan" else matrix[0, 0]
        matrix = matrix[:, :3].contiguous() if kind == "shape" else matrix
        matrix = matrix.double() if kind == "dtype" else matrix
        metadata["words"] = "7" if kind == "words" else metadata["words"]
        save_file({"matrix": matrix}, file, metadata)
    said = {"absent": "cannot be read", "text": "cannot be read", "foreign": "is not a head"}
    with pytest.raises(InputError, match=said.get(kind, "is damaged")):
        read_head(file)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"words": ["cat", "dog"]}, "other words: cat, dog, puppy, bicycle, boat, not cat, dog"),
        ({"background": ["sky"]}, "other background words"),
        ({"method": "maskclip"}, "another method: 'sclip', not 'maskclip'"),
        ({"stride": 16}, "another stride: 32, not 16"),
        ({"templates": ("{}",)}, "another templates"),
        ({"method": "cls-seg"}, "masks tags"),
    ],
)
def test_a_head_for_others_is_refused(tagclip_model: Clip, changed: dict[str, object], said: str) -> None:
    arguments: dict[str, object] = {"words": WORDS, "background": BACKGROUND, **SETTINGS, **changed}
    if changed.get("method") == "cls-seg":
        arguments = {"words": WORDS, "method": "cls-seg"}
    with pytest.raises(InputError, match=said):
        tagmask.Segmenter(tagclip_model, **{**arguments, "head": head_of(tagclip_model)})


def test_a_head_for_other_weights_is_refused(tagclip_model: Clip) -> None:
    with pytest.raises(InputError, match="other weights"):
        segmenter_of(tagclip_model, replace(head_of(tagclip_model), weights="others"))


def test_a_head_for_another_precision_is_refused(tagclip_model: Clip) -> None:
    head = head_of(tagclip_model)
    with pytest.raises(InputError, match="another precision: 'bfloat16', not 'float32'"):
        segmenter_of(tagclip_model, replace(head, settings={**head.settings, "precision": "bfloat16"}))


def test_a_head_is_part_of_a_run(tagclip_model: Clip, shapes: list[np.ndarray], tmp_path: Path) -> None:
    head = head_of(tagclip_model)
    write_head(head, tmp_path / "head.safetensors")
    plain = segmenter_identity(segmenter_of(tagclip_model))
    assert "head" not in plain.fields
    file = tmp_path / "head.safetensors"
    corrected = tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, head=file, **SETTINGS)
    assert segmenter_identity(corrected).fields["head"] == head.fingerprint
    with pytest.raises(InputError, match="A head corrects one method"):
        corrected.compare(shapes[0], ["sclip", "maskclip"])

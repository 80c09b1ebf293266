"""CLIP-ES compared with naive loops, and edge cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec, extract_features
from tagmask.dense.positions import bilinear_half, bilinear_half_always
from tagmask.errors import InputError
from tagmask.papers import clip_es, tagclip
from tagmask.papers.clip_es import ClassTexts, ClipEsSettings
from tagmask.papers.tagclip import TagclipSettings, preprocess_bicubic
from tests.oracles import components
from tests.papers.clip_es_texts import class_texts

PUBLISHED = ClipEsSettings(attention_layers=tuple(range(4, 11)))


@pytest.fixture(scope="module")
def texts(tagclip_model: Clip) -> ClassTexts:
    return class_texts(tagclip_model)


# -- Naive loops -----------------------------------------------------------------------------------------


def plain_refine(maps, attention, threshold, lose_border):
    """The paper's steps, map by map, with the full matrix squared; float64."""
    t = attention.astype(np.float64)
    for _ in range(3):
        t = t / t.sum(axis=0, keepdims=True)
        t = t / t.sum(axis=1, keepdims=True)
    t = (t + t.T) / 2
    t = t @ t
    refined = []
    for cam in maps:
        box = components.boxes_union(components.strong_cells(cam, threshold), lose_border)
        masked = t * box.ravel()[None].astype(np.float64)
        refined.append((masked @ cam.ravel()).reshape(cam.shape))
    return np.stack(refined)


@settings(deadline=None, max_examples=15)
@given(
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    threshold=st.sampled_from([0.0, 0.4, 0.7, 1.0]),
    lose_border=st.booleans(),
    seed=st.integers(0, 99),
)
def test_refine_maps_equals_the_formula(grid, threshold, lose_border, seed):
    rng = np.random.default_rng(seed)
    maps = np.float32(rng.random((3, *grid)) ** 2)
    logits = rng.normal(size=(grid[0] * grid[1],) * 2)
    attention = np.float32(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    options = ClipEsSettings(box_threshold=threshold, lose_border=lose_border)
    actual = clip_es.refine_maps(torch.from_numpy(maps), torch.from_numpy(attention), options)
    expected = plain_refine(maps, attention, threshold, lose_border)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=2e-6)


def plain_label(maps, size, tags, power):
    """Bilinear interpolation by its definition, pixel by pixel in float64; the first plane wins ties."""
    gh, gw = maps.shape[1:]
    labels = np.zeros(size, int)
    planes = np.zeros((len(tags) + (power is not None), *size))
    for y in range(size[0]):
        for x in range(size[1]):
            sy = min(max((y + 0.5) * gh / size[0] - 0.5, 0), gh - 1)
            sx = min(max((x + 0.5) * gw / size[1] - 0.5, 0), gw - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, gh - 1), min(x0 + 1, gw - 1)
            fy, fx = sy - y0, sx - x0
            upper = (1 - fx) * maps[:, y0, x0] + fx * maps[:, y0, x1]
            lower = (1 - fx) * maps[:, y1, x0] + fx * maps[:, y1, x1]
            values = list((1 - fy) * upper + fy * lower)
            names = list(tags)
            if power is not None:
                values = [(1 - max(values)) ** power, *values]
                names = [0, *(tag + 1 for tag in tags)]
            planes[:, y, x] = values
            labels[y, x] = names[values.index(max(values))]
    return labels, planes


@settings(deadline=None, max_examples=15)
@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    power=st.sampled_from([None, 1.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_labels_are_the_greatest_planes(grid, size, power, seed):
    maps = np.float32(np.random.default_rng(seed).random((3, *grid)))
    options = ClipEsSettings(background_power=power, half_planes=False)
    actual, planes = clip_es.label_pixels(
        torch.from_numpy(maps), size, (4, 0, 2), options, ignore_index=255, keep_scores=True
    )
    labels, expected = plain_label(maps, size, (4, 0, 2), power)
    np.testing.assert_allclose(planes, expected, rtol=0, atol=3e-6)
    ordered = np.sort(expected, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5
    np.testing.assert_array_equal(actual[clear], labels[clear])
    assert actual.dtype == np.int32


@pytest.mark.parametrize("power", [1.0, None])
def test_strips_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, power: float | None) -> None:
    maps = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0))
    options = ClipEsSettings(background_power=power)
    expected = clip_es.label_pixels(maps, (40, 30), (0, 1, 2), options, ignore_index=255)
    probabilities = clip_es.crf_probabilities(maps, (40, 30), options)
    monkeypatch.setattr(clip_es, "_STRIP", 7 * 30 * 4)
    actual = clip_es.label_pixels(maps, (40, 30), (0, 1, 2), options, ignore_index=255)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])
    np.testing.assert_array_equal(clip_es.crf_probabilities(maps, (40, 30), options), probabilities)


def test_planes_are_rounded_before_the_argmax() -> None:
    # Equal in float16, where the first wins.
    maps = torch.tensor([0.7, 0.70001])[:, None, None]
    rounded = clip_es.label_pixels(maps, (1, 1), (3, 8), ClipEsSettings(), ignore_index=255)[0]
    exact = clip_es.label_pixels(maps, (1, 1), (3, 8), ClipEsSettings(half_planes=False), ignore_index=255)[0]
    assert (rounded.item(), exact.item()) == (4, 9)


def test_second_scaling_brings_tiny_maps_to_one() -> None:
    tiny = torch.tensor([[[0.0, 1e-7, 2e-7]]])
    once = clip_es.min_max_scaled(tiny)
    assert once.max().item() == pytest.approx(2 / 3, rel=1e-5)
    assert clip_es.min_max_scaled(once).max().item() == pytest.approx(1, abs=1e-6)
    assert not clip_es.min_max_scaled(torch.zeros(2, 3, 4)).any()
    assert not clip_es.min_max_scaled(torch.full((2, 3, 4), 0.3)).any()


# -- Input and output of the CRF -------------------------------------------------------------------------


def test_crf_energies_are_float16() -> None:
    maps = torch.tensor([0.0, 0.3, 1.0]).reshape(1, 1, 3)
    probabilities = clip_es.crf_probabilities(maps, (1, 3), ClipEsSettings())
    planes = np.float16([[[1.0, 0.7, 0.0]], [[0.0, 0.3, 1.0]]])
    # The authors' expression, in float16 throughout.
    energies = -np.log(np.clip(planes, np.float16(1e-5), np.float16(1)))
    np.testing.assert_allclose(-np.log(probabilities), energies.astype(np.float32), rtol=0, atol=2e-6)
    assert float(energies.max()) == 11.5078125
    exact = clip_es.crf_probabilities(maps, (1, 3), ClipEsSettings(half_planes=False))
    np.testing.assert_allclose(exact[:, 0], [[1, 0.7, 1e-5], [1e-5, 0.3, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("power", "confidence", "labels"),
    [
        (1.0, None, [0, 8, 3]),
        (1.0, 0.95, [0, 255, 3]),
        (None, 0.5, [7, 2, 255]),
    ],
)
def test_labels_after_the_crf(power: float | None, confidence: float | None, labels: list[int]) -> None:
    background = [[0.97, 0.03, 0.01]] if power is not None else []
    after = np.float32([*background, [0.02, 0.9, 0.03], [0.01, 0.07, 0.96]])[:, None]
    if power is None:
        after = np.float32([[0.8, 0.2, 0.4], [0.2, 0.5, 0.4]])[:, None]
    options = ClipEsSettings(background_power=power, confidence=confidence)
    actual, probability = clip_es.crf_labels(after, (7, 2), options, ignore_index=255)
    assert actual[0].tolist() == labels
    np.testing.assert_array_equal(probability[0], after.max(axis=0)[0])


def test_crf_labels_without_planes_are_ignored() -> None:
    options = ClipEsSettings(background_power=None)
    planes = clip_es.crf_probabilities(torch.zeros(0, 1, 1), (2, 3), options)
    assert planes.shape == (0, 2, 3)
    labels, probability = clip_es.crf_labels(planes, (), options, ignore_index=255)
    assert (labels == 255).all()
    assert not probability.any()


# -- Edge cases ------------------------------------------------------------------------------------------


@torch.inference_mode()
def masks(clip, image, tags, texts, options=PUBLISHED):
    """Labels and planes, by all steps in order."""
    maps = torch.zeros(0, 1, 1)
    if tags:
        maps = clip_es.tag_maps(clip, clip_es.encode_image(clip, image, options), texts, tags, options)
    return clip_es.label_pixels(maps, image.shape[:2], tags, options, ignore_index=255, keep_scores=True)


def test_image_without_tags_is_all_background(
    tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]
) -> None:
    labels, planes = masks(tagclip_model, shapes[1], (), texts)
    assert labels.shape == (320, 200)
    assert not labels.any()
    np.testing.assert_array_equal(planes, np.ones((1, 320, 200), np.float32))
    options = replace(PUBLISHED, background_power=None)
    labels, planes = masks(tagclip_model, shapes[1], (), texts, options)
    assert (labels == 255).all()
    assert planes.shape == (0, 320, 200)
    tower = clip_es.encode_image(tagclip_model, shapes[1][:40, :50], PUBLISHED)
    assert clip_es.tag_maps(tagclip_model, tower, texts, (), PUBLISHED).shape == (0, 3, 4)


def test_single_tag_is_foreground_above_one_half(
    tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]
) -> None:
    labels, planes = masks(tagclip_model, shapes[1], (11,), texts)
    np.testing.assert_array_equal(labels, np.where(planes[1] > 0.5, 12, 0))
    assert set(np.unique(labels)) == {0, 12}


def test_planes_follow_the_order_of_tags(
    tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]
) -> None:
    given = masks(tagclip_model, shapes[1], (3, 11, 7), texts)
    permuted = masks(tagclip_model, shapes[1], (7, 3, 11), texts)
    np.testing.assert_allclose(given[1][[0, 3, 1, 2]], permuted[1], rtol=0, atol=2e-3)
    assert np.mean(given[0] != permuted[0]) < 1e-3


def test_only_the_tags_compete(tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]) -> None:
    two = masks(tagclip_model, shapes[1], (3, 11), texts)[1]
    three = masks(tagclip_model, shapes[1], (3, 11, 7), texts)[1]
    assert np.abs(two[1:] - three[1:3]).max() > 1e-3


def test_without_a_background_plane_every_pixel_has_a_tag(
    tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]
) -> None:
    options = ClipEsSettings(box_threshold=0.7, background_power=None)
    labels, planes = masks(tagclip_model, shapes[1], (19, 0, 11), texts, options)
    assert planes.shape[0] == 3
    assert set(np.unique(labels)) <= {0, 11, 19}
    assert len(np.unique(labels)) > 1


def test_last_layer_can_be_averaged_too(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    eight = ClipEsSettings()
    with torch.inference_mode():
        pixels = preprocess_bicubic(tagclip_model, shapes[1], clip_es.tagclip_settings(eight))
        capture = clip_es.captured(eight, 12) | CaptureSpec(attention=frozenset(range(11)))
        tower = extract_features(tagclip_model.vision, pixels[None], bilinear_half_always, capture=capture)
        actual = clip_es.patch_attention(tower, eight)
        layers = [tower.attention[layer] for layer in range(4, 11)] + [tower.last_attention]
    expected = np.mean([layer[0, 1:, 1:].numpy() for layer in layers], axis=0)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-7)


def test_zero_activation_is_background(
    tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]
) -> None:
    zeros = torch.zeros(2, 20, 13)
    assert not clip_es.refine_maps(zeros, torch.rand(260, 260), PUBLISHED).any()
    labels, _ = clip_es.label_pixels(zeros, (320, 200), (0, 1), PUBLISHED, ignore_index=255)
    assert not labels.any()
    # A single text has nothing to compete with, and so no gradient.
    alone = ClassTexts(texts.foreground, texts.background[:0])
    labels, planes = masks(tagclip_model, shapes[1], (11,), alone)
    assert not labels.any()
    assert not planes[1].any()


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (1, 40), (40, 1), (16, 90), (33, 17), (224, 224)])
@pytest.mark.parametrize("lose_border", [True, False])
def test_any_size_gives_labels_of_that_size(
    size: tuple[int, int], lose_border: bool, tagclip_model: Clip, texts: ClassTexts
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    options = replace(PUBLISHED, lose_border=lose_border)
    labels, planes = masks(tagclip_model, image, (0, 11), texts, options)
    assert labels.shape == size
    assert set(np.unique(labels)) <= {0, 1, 12}
    assert np.isfinite(planes).all()
    if lose_border and min(size) <= 16:  # one row or column of patches: never inside a box
        assert not labels.any()


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_constant_image(grey: int, tagclip_model: Clip, texts: ClassTexts) -> None:
    image = np.full((64, 80, 3), grey, np.uint8)
    labels, planes = masks(tagclip_model, image, (0, 11, 19), texts)
    assert np.isfinite(planes).all()
    assert set(np.unique(labels)) <= {0, 1, 12, 20}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ((3, 3), r"Tags \(3, 3\) repeat a class"),
        ((20,), "a tag is 20. Give a whole number, from 0 to 19"),
        ((-1,), "a tag is -1"),
        ((True,), "a tag is True"),
    ],
)
def test_invalid_tags_are_refused(tags: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        clip_es.check_tags(tags, 20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box_threshold": 1.5}, "box_threshold is 1.5"),
        ({"scalings": 0}, "scalings is 0"),
        ({"background_power": -1.0}, "background_power is -1.0"),
        ({"confidence": 2.0}, "confidence is 2.0"),
        ({"sinkhorn_rounds": -1}, "sinkhorn_rounds is -1"),
        ({"affinity_power": -1}, "affinity_power is -1"),
        ({"attention_layers": ()}, "attention_layers is empty"),
        ({"attention_layers": (12,)}, "from 0 to 11"),
        ({"min_patches": 9, "max_patches": 4}, "min_patches 9 is greater than max_patches 4"),
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipEsSettings(**changes)


# -- Features shared with the tagger ---------------------------------------------------------------------


def test_maps_from_the_taggers_features_are_the_same(
    tagclip_model: Clip, texts: ClassTexts, shapes: list[np.ndarray]
) -> None:
    image = shapes[1]
    with torch.inference_mode():
        masking = clip_es.encode_image(tagclip_model, image, PUBLISHED)
        pixels = preprocess_bicubic(tagclip_model, image, clip_es.tagclip_settings(PUBLISHED))
        capture = clip_es.captured(PUBLISHED, 12) | tagclip.captured(TagclipSettings(), 12)
        tagging = extract_features(tagclip_model.vision, pixels[None], bilinear_half, capture=capture)
    own_maps, shared_maps = (
        clip_es.tag_maps(tagclip_model, tower, texts, (3, 11), PUBLISHED) for tower in (masking, tagging)
    )
    # Layers whose attention is captured are summed in another order.
    torch.testing.assert_close(own_maps, shared_maps, rtol=0, atol=1e-5)


def test_position_table_of_the_native_grid_is_rounded_too(tagclip_model: Clip) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        tokens = clip_es.encode_image(tagclip_model, image, PUBLISHED).tokens
        pixels = preprocess_bicubic(tagclip_model, image, clip_es.tagclip_settings(PUBLISHED))[None]
        rounded, stored = (
            extract_features(tagclip_model.vision, pixels, rule, attention=set(range(4, 11))).tokens
            for rule in (bilinear_half_always, bilinear_half)
        )
    assert torch.equal(tokens, rounded)
    assert not torch.equal(tokens, stored)


def test_features_without_the_layers_are_refused(tagclip_model: Clip, texts: ClassTexts) -> None:
    capture = CaptureSpec(averages=frozenset({frozenset({4, 5})}))
    tower = extract_features(tagclip_model.vision, torch.zeros(1, 3, 32, 48), bilinear_half, capture=capture)
    with pytest.raises(InputError, match=r"attention of layers \[4, 5, 6, 7, 8, 9, 10\] was not captured"):
        clip_es.tag_maps(tagclip_model, tower, texts, (0,), PUBLISHED)


def test_captured_layers_scale_with_the_depth() -> None:
    for options, depth, layers in (
        (PUBLISHED, 12, range(4, 11)),
        (ClipEsSettings(), 12, range(4, 11)),
        (ClipEsSettings(), 24, range(8, 23)),
    ):
        assert clip_es.captured(options, depth).averages == {frozenset(layers)}
    assert not clip_es.captured(ClipEsSettings(attention_layers=(11,)), 12).averages

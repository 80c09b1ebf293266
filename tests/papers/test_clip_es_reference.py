"""CLIP-ES compared with recorded values of the authors' program, step by step."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.dense.boxes import component_boxes_union
from tagmask.dense.gradcam import softmax_gradcam
from tagmask.papers import clip_es
from tagmask.papers.clip_es import ClassTexts, ClipEsSettings
from tests.papers.clip_es_texts import class_texts

GATE = Path(__file__).parents[1] / "golden" / "clipes_small.npz"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "clipes_voc_img0.npz"

PUBLISHED = ClipEsSettings(attention_layers=tuple(range(4, 11)))
TAGS = (0, 5, 11, 19)
PLAIN = replace(PUBLISHED, half_planes=False)
"""Float32 throughout, to compare planes."""
THIN = {"x_after_block10": (4, 1), "attn_mean_l4_l10": (6, 6), "ln1_act": (1, 4, 4)}
THIN |= {"cam_refined_full": (5, 5), "attn_highres_fp16": (1, 5, 5)}
"""Strides at which the copy in the repository samples large arrays."""


@torch.inference_mode()
def steps(clip: Clip, texts: ClassTexts, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every recorded value, by its name in the file."""
    size = (image.shape[0], image.shape[1])
    tower = clip_es.encode_image(clip, image, PUBLISHED)
    attention = clip_es.patch_attention(tower, PUBLISHED)
    competing = clip_es.competing_texts(texts, TAGS)
    gradcam = softmax_gradcam(tower, competing, range(len(TAGS)), clip.logit_scale)
    cams = clip_es.activation_maps(clip, tower, texts, TAGS, PUBLISHED)
    refined = clip_es.refine_maps(cams, attention, PUBLISHED)
    maps = clip_es.tag_maps(clip, tower, texts, TAGS, PUBLISHED)
    _, full = clip_es.label_pixels(maps, size, TAGS, PLAIN, ignore_index=255, keep_scores=True)
    labels, half = clip_es.label_pixels(maps, size, TAGS, PUBLISHED, ignore_index=255, keep_scores=True)
    assert full is not None
    assert half is not None
    computed = {
        "text_fg": texts.foreground,
        "text_bg": texts.background,
        "img0/x_after_block10": tower.tokens[0],
        "img0/attn_mean_l4_l10": attention,
        "img0/prob": gradcam.probabilities,
        "img0/ln1_act": tower.z[0, 1:].T.unflatten(1, tower.grid),
        "img0/grad_c0": gradcam.weights[0],
        "img0/keys": torch.tensor(TAGS),
        "img0/attn_highres_fp16": half[1:],
        "img0/label": labels,
    }
    for row, tag in enumerate(TAGS):
        cam = cams[row : row + 1]
        computed[f"img0/c{tag}/cam"] = cam[0]
        computed[f"img0/c{tag}/u8max"] = (255 * cam.max()).trunc()
        computed[f"img0/c{tag}/boxes_x0y0x1y1"] = component_boxes_union(cam, torch.tensor([0.4]).double())[0][
            0
        ]
        computed[f"img0/c{tag}/cam_refined_grid"] = refined[row]
        computed[f"img0/c{tag}/cam_refined_full"] = full[1 + row]
    return {f"voc/{name}": np.asarray(value) for name, value in computed.items()}


@pytest.fixture(scope="module")
def computed(tagclip_model: Clip, shapes: list[np.ndarray]) -> dict[str, np.ndarray]:
    return steps(tagclip_model, class_texts(tagclip_model), shapes[0])


def check(name: str, ours: np.ndarray, reference: np.ndarray) -> None:
    last = name.rsplit("/", 1)[-1]
    if last == "boxes_x0y0x1y1":
        union = np.zeros_like(ours)
        for x0, y0, x1, y1 in reference:
            union[y0:y1, x0:x1] = True
        np.testing.assert_array_equal(ours, union)
    elif last == "label":
        assert np.count_nonzero(ours != reference) <= ours.size // 10_000
        assert len(np.unique(reference)) > 3  # with few labels the comparison would be weak
    elif last == "grad_c0":
        # Relative: gradients are about 1e-6. The full file has those of all patches, the copy their mean.
        mean = reference.mean(axis=(1, 2)) if reference.ndim == 3 else reference
        np.testing.assert_allclose(ours, mean, rtol=0, atol=2e-5 * np.abs(mean).max())
    elif last == "attn_highres_fp16":
        # At most cam step of float16, and rarely.
        np.testing.assert_allclose(ours, reference.astype(np.float32), rtol=0, atol=2**-11)
        assert np.mean(ours != reference) < 0.01
    elif reference.dtype.kind in "iu":
        np.testing.assert_array_equal(ours, reference)
    else:
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", np.load(GATE).files)
def test_step_equals_the_reference(name: str, computed: Mapping[str, np.ndarray]) -> None:
    thin = tuple(slice(None, None, step) for step in THIN.get(name.rsplit("/", 1)[-1], ()))
    check(name, computed[name][thin], np.load(GATE)[name])


def whole_pack() -> list[str]:
    names = np.load(SHARED).files if SHARED.exists() else ["missing"]
    return [name for name in names if "crf_" not in name and not name.startswith("miou/")]


@pytest.mark.parity
@pytest.mark.parametrize("name", whole_pack())
def test_every_array_of_the_whole_pack(name: str, computed: Mapping[str, np.ndarray]) -> None:
    check(name, computed[name], np.load(SHARED)[name])

import dataclasses
import inspect
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from tagmask.errors import InputError, ShapeError
from tagmask.refine import crf as module
from tagmask.refine.crf import CRF_SETTINGS, CrfSettings, caffe_wrapped, dense_crf, dense_crf_batch
from tagmask.refine.lattice import Lattice
from tests.oracles.dense_crf import dense_crf as naive

SHARED = Path(__file__).parents[3] / "shared" / "golden"
MILD = CrfSettings(near=1.5, near_weight=2.0, far=4.0, colour=40.0, colour_weight=3.0, rounds=3)


def scene(c, h, w, seed=0, dtype=torch.float32):
    """Random planes on a random image."""
    random = np.random.default_rng(seed)
    return (
        torch.tensor(random.random((c, h, w)), dtype=dtype),
        random.integers(0, 256, (h, w, 3), dtype=np.uint8),
    )


def drawing(h=32, w=40, classes=4, seed=0):
    """Vertical stripes of one colour each, slightly noisy; planes that are correct but noisy and soft."""
    random = np.random.default_rng(seed)
    truth = np.broadcast_to(np.arange(w) * classes // w, (h, w))
    colours = np.array([[200, 40, 40], [40, 190, 60], [50, 60, 210], [220, 210, 60]])[truth]
    image = np.clip(colours + random.normal(0, 2, (h, w, 3)), 0, 255).astype(np.uint8)
    planes = np.eye(classes)[truth].transpose(2, 0, 1) + 0.25 + 0.5 * random.random((classes, h, w))
    return torch.tensor(planes / planes.sum(0), dtype=torch.float32), image, torch.tensor(truth.copy())


def small_scene():
    """The input of REFERENCE, computed by formulas."""
    y, x = np.mgrid[:12, :16]
    image = np.stack(
        [40 + 10 * (x // 4) + 3 * y, 200 - 9 * (y // 3) * ((x > 6) + 1), (x * x + 5 * y) % 97 + 60]
    )
    planes = np.stack([1 + np.cos(x / 3 + k * 2 + y / 5) * np.sin(y / 4 - k) for k in range(3)])
    planes = torch.tensor(planes / planes.sum(0), dtype=torch.float32)
    return planes, np.ascontiguousarray(image.transpose(1, 2, 0)).astype(np.uint8)


# Q[:, ::5, ::5] of `small_scene`, computed with pydensecrf2 1.1; the second list is of labels, row by row.
REFERENCE = {
    "cls-seg": (
        "0.00136 0.00075 0.9259 0.0008 0.99844 0.00021 0.00275 0.98686 0.0005 0.00025 0.00541 0.99918 "
        "0.99648 0.99906 0.01333 0.00029 0.00084 0.99933 0.02522 0.00205 0.00023 0.99905 0.99381 7e-05 "
        "0.00217 0.00019 0.06077 0.99891 0.00071 0.00046 0.97203 0.0111 0.99927 0.0007 0.00078 0.00075",
        "111111111002222211111111112222221111111111222222000011111122222200001111112222220001111111222200"
        "000011111111000000221111111100002222111111100000222211111110000022221111111000002222111111100000",
    ),
    "weakclip/voc": (
        "0.00621 0.00295 0.04564 0.00709 0.00681 0.0004 0.01295 0.13303 0.00851 0.00077 0.11797 0.99325 "
        "0.98385 0.99615 0.11109 0.00342 0.98933 0.99863 0.93422 0.04516 0.97428 0.99756 0.87567 0.00069 "
        "0.00994 0.0009 0.84327 0.98949 0.00386 0.00097 0.05284 0.8218 0.0172 0.00167 0.00636 0.00606",
        "111111111122222211111111112222221111111111222222111111111111222211111111111112221111111111111222"
        "111111111111000011111111111100001111111111100000111111111110000011111111111000001111111111100000",
    ),
    "weakclip/student-voc": (
        "0.00297 0.00185 0.98491 0.00214 0.99616 0.00041 0.0045 0.97656 0.00144 0.00074 0.01535 0.99782 "
        "0.99228 0.99767 0.00631 0.00078 0.00198 0.99862 0.97005 0.00439 0.00066 0.99715 0.98248 0.00018 "
        "0.00476 0.00047 0.00878 0.99708 0.00186 0.00096 0.02545 0.01905 0.9979 0.00211 0.00217 0.002",
        "111111111000222211111111100222221111111111222222000111111122222200011111112222220001111111122200"
        "000111111111000000011111111100002222111111100000222211111110000022221111111000002222111111100000",
    ),
}


def label_agreement(a, b):
    return (a.argmax(0) == b.argmax(0)).float().mean().item()


@pytest.mark.parametrize("name", REFERENCE)
def test_oracle_agrees_with_the_papers_program(name):
    labels = naive(*small_scene(), CRF_SETTINGS[name]).argmax(0).flatten()
    assert np.mean(labels == [int(label) for label in REFERENCE[name][1]]) >= 0.98


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(name):
    refined = dense_crf(*small_scene(), CRF_SETTINGS[name])
    probabilities, labels = REFERENCE[name]
    expected = torch.tensor([float(value) for value in probabilities.split()])
    torch.testing.assert_close(refined[:, ::5, ::5].flatten(), expected, rtol=0, atol=2e-5)
    assert "".join(map(str, refined.argmax(0).flatten().tolist())) == labels


@pytest.mark.parametrize("name", CRF_SETTINGS)
def test_lattice_agrees_with_all_pairs_on_a_clear_image(name):
    planes, image, truth = drawing()
    options = CRF_SETTINGS[name]
    exact = torch.from_numpy(naive(planes, image, options))
    assert label_agreement(dense_crf(planes, image, options), exact) >= 0.995
    assert (exact.argmax(0) == truth).float().mean() >= 0.995


def test_edges_stay_and_noise_disappears():
    planes, image, truth = drawing()
    noisy = planes + 0.3 * torch.rand(planes.shape, generator=torch.Generator().manual_seed(1))
    before = (noisy.argmax(0) == truth).float().mean()
    after = (dense_crf(noisy, image, CRF_SETTINGS["cls-seg"]).argmax(0) == truth).float().mean()
    assert before < 0.999 < after


def test_distant_pixels_of_the_same_colour_count():
    planes, image, truth = drawing()
    planes[:, :, :20] = 0.25  # uniform on the left half, whose colours also appear on the right
    image[:, 20:30], image[:, 30:] = image[:, :10].copy(), image[:, 10:20].copy()
    planes[:, :, 20:] = planes[[2, 3, 0, 1]][:, :, 20:]
    refined = dense_crf(planes, image, CRF_SETTINGS["cls-seg"])
    assert (refined.argmax(0)[:, :20] == truth[:, :20]).float().mean() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (2, 2)])
@pytest.mark.parametrize("fill", [None, 0, 255])
def test_thin_and_flat_images(size, fill):
    planes, image = scene(3, *size)
    if fill is not None:
        image[:] = fill
    refined = dense_crf(planes, image, MILD)
    torch.testing.assert_close(refined.sum(0), torch.ones(size), rtol=0, atol=1e-5)
    if size == (1, 1):  # both kernels are 1
        logits = planes.log()
        q = logits.softmax(0)
        for _ in range(MILD.rounds):
            q = (logits + 5 * q).softmax(0)
        torch.testing.assert_close(refined, q, rtol=0, atol=1e-5)


def test_zero_probabilities_give_uniform_classes():
    refined = dense_crf(torch.zeros(4, 6, 5), scene(1, 6, 5)[1], MILD)
    torch.testing.assert_close(refined, torch.full((4, 6, 5), 0.25), rtol=0, atol=1e-5)


def test_single_class_is_everywhere():
    planes, image = scene(1, 6, 5)
    before = planes.clone()
    assert torch.equal(dense_crf(planes, image, MILD), torch.ones(1, 6, 5))
    assert torch.equal(planes, before), "the input was modified"


def test_values_outside_0_and_1_are_clipped():
    planes, image = scene(3, 5, 6)
    planes[0, 0] = torch.tensor([-3.0, 0.0, 1e-9, 1.0, 1.5, 40.0])
    clipped = planes.clamp(MILD.floor, 1)
    assert torch.equal(dense_crf(planes, image, MILD), dense_crf(clipped, image, MILD))


def test_is_deterministic_and_leaves_inputs_unchanged():
    planes, image, _ = drawing()
    planes.requires_grad_()
    before = planes.detach().clone(), image.copy()
    first = dense_crf(planes, image, MILD)
    assert torch.equal(first, dense_crf(planes, torch.from_numpy(image), MILD))
    assert torch.equal(planes, before[0])
    assert np.array_equal(image, before[1])
    assert not first.requires_grad


def test_order_of_classes_does_not_matter():
    planes, image = scene(4, 9, 8)
    order = [2, 0, 3, 1]
    refined = dense_crf(planes, image, MILD)
    torch.testing.assert_close(dense_crf(planes[order], image, MILD), refined[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.float16, 1e-3)])
def test_dtype_of_the_planes_is_kept(dtype, tolerance):
    planes, image = scene(3, 12, 10)
    refined = dense_crf(planes.to(dtype), image, MILD)
    assert refined.dtype == dtype
    expected = dense_crf(planes.to(dtype).float(), image, MILD)
    torch.testing.assert_close(refined.float(), expected, rtol=0, atol=tolerance)


def test_group_size_does_not_change_the_result(monkeypatch):
    planes, image = scene(7, 10, 9)
    expected = dense_crf(planes, image, MILD)
    monkeypatch.setattr(module, "_BYTES", 1)
    monkeypatch.setattr(module, "_MIN_GROUP", 3)
    torch.testing.assert_close(dense_crf(planes, image, MILD), expected, rtol=0, atol=1e-6)


def test_skipping_faded_classes_does_not_change_the_result(monkeypatch):
    planes, image, _ = drawing()
    planes = torch.cat([planes, torch.zeros(5, *planes.shape[1:])])
    options, sent = CRF_SETTINGS["weakclip/loss"], []
    call = Lattice.__call__
    monkeypatch.setattr(Lattice, "__call__", lambda self, v: sent.append(v.shape[1]) or call(self, v))
    quick = dense_crf(planes, image, options)
    assert 9 in sent
    assert sent[-1] == 4
    monkeypatch.setattr(module, "_FADED", 0)
    torch.testing.assert_close(quick, dense_crf(planes, image, options), rtol=0, atol=2e-5)
    assert sent[-1] == 9


def test_batch_equals_single_images():
    pairs = [scene(3, 6, 7, seed) for seed in range(3)]
    planes, images = torch.stack([p for p, _ in pairs]), np.stack([image for _, image in pairs])
    expected = torch.stack([dense_crf(p, image, MILD) for p, image in pairs])
    assert torch.equal(dense_crf_batch(planes, images, MILD), expected)
    assert torch.equal(dense_crf_batch(planes, torch.from_numpy(images), MILD), expected)


def test_caffe_wrapped():
    image = np.array([[[0, 0, 0], [255, 255, 255], [122, 116, 104], [123, 117, 105]]], np.uint8)
    expected = [[[152, 140, 134], [150, 138, 132], [0, 0, 0], [0, 0, 0]]]
    assert caffe_wrapped(image).tolist() == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(bad):
    planes, image = scene(2, 3, 4)
    planes[1, 2, 3] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        dense_crf(planes, image, MILD)


# Unwrapped: in tests, jaxtyping would raise before the error that users see.
@pytest.mark.parametrize(
    ("planes", "image", "message"),
    [
        ((2, 3, 4), (4, 3, 3), r"planes of \(3, 4\) and an image of \(4, 3, 3\)"),
        ((2, 3, 4), (3, 4, 4), r"image of \(3, 4, 4\)"),
        ((2, 3, 4), (3, 4), r"image of \(3, 4\)"),
        ((0, 3, 4), (3, 4, 3), "at least one class"),
        ((2, 0, 4), (0, 4, 3), "one pixel"),
    ],
)
def test_sizes_must_agree(planes, image, message):
    with pytest.raises(ShapeError, match=message):
        inspect.unwrap(dense_crf)(torch.zeros(planes), np.zeros(image, np.uint8), MILD)


@pytest.mark.parametrize(("planes", "images"), [(2, 3), (0, 0)])
def test_batches_must_agree(planes, images):
    with pytest.raises(ShapeError, match="one per image"):
        inspect.unwrap(dense_crf_batch)(
            torch.zeros(planes, 2, 3, 4), np.zeros((images, 3, 4, 3), np.uint8), MILD
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("near", 0.0),
        ("far", -1.0),
        ("colour", 0.0),
        ("near_weight", -1.0),
        ("rounds", -1),
        ("floor", 0.0),
        ("floor", 2.0),
    ],
)
def test_invalid_settings_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        dataclasses.replace(MILD, **{field: value})


def test_features_too_spread_for_the_lattice_are_refused():
    planes, image = scene(2, 8, 8)
    with pytest.raises(InputError, match="Increase the standard deviations"):
        dense_crf(planes, image, dataclasses.replace(MILD, colour=0.001))


def test_named_settings_are_immutable():
    with pytest.raises(TypeError):
        CRF_SETTINGS["cls-seg"] = MILD
    with pytest.raises(dataclasses.FrozenInstanceError):
        CRF_SETTINGS["cls-seg"].rounds = 3


@pytest.mark.parity
def test_labels_equal_clip_es():
    pack = np.load(SHARED / "clipes_voc_img0.npz")
    part = {name.removeprefix("voc/img0/"): pack[name] for name in pack.files if "img0/" in name}
    image = np.asarray(PIL.Image.open(SHARED / "img0.png").convert("RGB"))
    cams = torch.stack([torch.tensor(part[f"c{key}/cam_refined_full"]) for key in part["keys"]]).half()
    planes = torch.cat([1 - cams.amax(0, keepdim=True), cams])
    refined = dense_crf(planes.float(), caffe_wrapped(image), CRF_SETTINGS["cls-seg"])
    labels = np.array([0, *(part["keys"] + 1)])[refined.argmax(0)]
    assert (labels == part["crf_label"]).mean() >= 0.9999
    np.testing.assert_allclose(refined.amax(0), part["crf_conf_max"], rtol=0, atol=2e-3)
    # The image without the byte overflow gives different labels.
    plain = np.array([0, *(part["keys"] + 1)])[
        dense_crf(planes.float(), image, CRF_SETTINGS["cls-seg"]).argmax(0)
    ]
    assert 0.99 < (plain == part["crf_label"]).mean() < 0.9995

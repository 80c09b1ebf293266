import numpy as np
import pytest
import torch

from tagmask.errors import InputError, ShapeError
from tagmask.refine.crf import CRF_SETTINGS, dense_crf
from tagmask.weak.multiscale import TTAConfig, multiscale
from tagmask.weak.pseudo import forward_function, keys_only, labels, predict, pseudo_mask
from tests.weak.models import small_model, with_all_classes

VIEWS = TTAConfig(scales=(0.5, 1.0), window=64, stride=40, short=80, batch_size=3)
IMAGE = np.random.default_rng(1).integers(0, 256, (60, 90, 3), dtype=np.uint8)
FIELD = CRF_SETTINGS["weakclip/voc"]


@pytest.fixture(scope="module")
def model(sclip_model):
    return with_all_classes(small_model(sclip_model), IMAGE)


def test_the_forward_function_matches_the_model_and_encodes_texts_once(model, monkeypatch):
    calls = []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda: calls.append(1) or encode())
    with torch.no_grad():
        model.contexts += 0.01  # invalidates the cached texts
    found = multiscale(forward_function(model), IMAGE, VIEWS)
    assert len(calls) == 1

    def straight(windows):
        with torch.no_grad():
            return model(model.normalise(np.ascontiguousarray(windows))).logits

    torch.testing.assert_close(found, multiscale(straight, IMAGE, VIEWS), atol=1e-5, rtol=0)


def test_only_predicted_classes_are_kept_without_renormalising(model):
    everything = multiscale(forward_function(model), IMAGE, VIEWS)
    planes, keys = predict(model, IMAGE, VIEWS)
    assert len(keys) > 1
    assert keys == tuple(torch.unique(everything.argmax(0)).tolist())
    np.testing.assert_allclose(planes, everything[list(keys)], atol=1e-6)


def test_present_restricts_the_candidate_classes():
    scores = torch.tensor([[[0.1, 0.2]], [[0.6, 0.5]], [[0.2, 0.25]], [[0.1, 0.05]]])
    planes, keys = keys_only(scores)
    assert (keys, planes.shape) == ((1,), (1, 1, 2))
    planes, keys = keys_only(scores, present=[3, 0, 2, 0])
    assert keys == (2,)
    np.testing.assert_allclose(planes, scores[[2]])
    for wrong in ([], [4], [-1]):
        with pytest.raises(InputError, match="from 0 to 3"):
            keys_only(scores, present=wrong)


def test_labels_are_the_crfs_on_the_predicted_classes_only():
    random = np.random.default_rng(0)
    planes = (random.random((2, 20, 30)) * 0.5).astype(np.float32)
    image = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    plain = labels(planes, (3, 7), image, None)
    np.testing.assert_array_equal(plain, np.where(planes[0] >= planes[1], 3, 7))
    field = labels(planes, (3, 7), image, FIELD)
    wanted = dense_crf(torch.from_numpy(planes), image, FIELD).argmax(0).numpy()
    np.testing.assert_array_equal(field, np.array([3, 7])[wanted])
    assert field.dtype == np.uint8
    assert (field != plain).any()
    assert (labels(planes[:1], (9,), image, FIELD) == 9).all()


def test_mismatched_planes_are_refused():
    with pytest.raises(ShapeError, match="one plane per key"):
        labels(np.zeros((2, 4, 5), np.float32), (1,), np.zeros((4, 5, 3), np.uint8), None)


def test_a_mask_from_pixels_to_labels(model):
    mask = pseudo_mask(model, IMAGE, FIELD, VIEWS)
    assert mask.shape == IMAGE.shape[:2]
    planes, keys = predict(model, IMAGE, VIEWS)
    np.testing.assert_array_equal(mask, labels(planes, keys, IMAGE, FIELD))
    only = pseudo_mask(model, IMAGE, None, VIEWS, present=[2])
    assert (only == 2).all()

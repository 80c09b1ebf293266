"""Single steps of TagCLIP compared with recorded values: positions, text features, re-identification."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.clip.tokenizer import tokenize
from tagmask.dense.features import class_token_features
from tagmask.dense.positions import bilinear_half
from tagmask.dense.prompts import split_names, text_features
from tagmask.papers import tagclip
from tagmask.resolve import recipe

PACK = np.load(Path(__file__).parents[1] / "golden" / "units_model.npz")


@pytest.mark.parametrize("key", [key for key in PACK.files if key.startswith("pos/")])
def test_position_tables(key: str, tagclip_model: Clip) -> None:
    rows, columns = (int(side) for side in key.removeprefix("pos/").split("x"))
    table = bilinear_half(tagclip_model.vision.positional_embedding, (rows, columns))
    np.testing.assert_array_equal(table[:, :16].numpy(), PACK[key].astype(np.float32))


def test_text_features_before_normalisation(tagclip_model: Clip) -> None:
    ids = tokenize(list(PACK["text/prompts"]))
    np.testing.assert_array_equal(np.asarray(ids), PACK["text/tokens"])
    with torch.inference_mode():
        features = tagclip_model.text(torch.as_tensor(ids))
    np.testing.assert_allclose(features.numpy(), PACK["text/features"], rtol=0, atol=1e-5)


def test_class_token_of_an_image(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    pixels = tagclip.preprocess_bicubic(tagclip_model, shapes[2], tagclip.TagclipSettings())
    with torch.inference_mode():
        feature = class_token_features(tagclip_model.vision, pixels[None])[0]
    unit = feature / feature.norm()
    np.testing.assert_allclose(unit.numpy(), PACK["clip/img2_cls_unit"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("scores", "final"),
    [("scores", "final_early_exit"), ("scores_ok", "final_ok"), ("scores_bg", "final_bg")],
)
def test_reidentification_of_constructed_scores(
    scores: str, final: str, tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    final_scores = reidentified(tagclip_model, shapes[0], scores)
    np.testing.assert_allclose(final_scores, PACK[f"cwr/{final}"], rtol=0, atol=1e-5)


def test_without_early_exit_later_candidates_are_reidentified(
    tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    published = reidentified(tagclip_model, shapes[0], "scores")
    corrected = reidentified(tagclip_model, shapes[0], "scores", early_exit=False)
    assert np.flatnonzero(published != corrected).tolist() == [9]


def test_recorded_p_local_is_the_maximum_of_recorded_scores() -> None:
    np.testing.assert_array_equal(PACK["cwr/scores"][:, :20].max(axis=0), PACK["cwr/p_local"])


def reidentified(clip: Clip, image: np.ndarray, scores: str, **changes: bool) -> np.ndarray:
    settings = recipe("tagclip/voc2012")
    names = split_names([*settings.words, *settings.background])
    texts = text_features(clip, names.texts, settings.templates)
    options = tagclip.TagclipSettings(**changes)
    pixels = tagclip.preprocess_bicubic(clip, image, options)
    patches = torch.from_numpy(PACK[f"cwr/{scores}"])
    local = patches[:, :20].amax(dim=0)
    with torch.inference_mode():
        candidates = tagclip.find_candidates(patches, local, (16, 21), options)
        local_scores = tagclip.LocalScores(pixels, local, candidates)
        return tagclip.reidentify(clip, [local_scores], names, texts, options)[0].numpy()

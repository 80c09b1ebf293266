"""Frozen features as files: what is read again, and what is never trusted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense import sliding
from tagmask.errors import InputError
from tagmask.pipelines import frozen_files
from tests.segmenters import BACKGROUND, WORDS, scores_of

BASE: dict[str, object] = {"templates": ("a {}.",), "short_side": 112, "crop": 64, "stride": 32}


@pytest.fixture
def image(shapes: list[np.ndarray]) -> np.ndarray:
    return shapes[1][:120, :90]


@pytest.fixture
def segmenter(tagclip_model: Clip) -> tagmask.Segmenter:
    return tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, **BASE)


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"method": name}
            for name in ("sclip", "maskclip-smoothed", "resclip", "sc-clip", "clip-surgery", "sfp")
        ),
        {"join": "tokens"},
        {"pad_windows": True, "crop": 70},
        {"crop": None},
    ],
    ids=str,
)
def test_read_features_give_the_same_masks(
    tagclip_model: Clip,
    image: np.ndarray,
    tmp_path: Path,
    settings: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for the rounding to float16, without the tower, also for methods that keep more than patches."""
    segmenter = tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, **{**BASE, **settings})
    frozen = segmenter.freeze(image)
    frozen.save(tmp_path / "kept")

    def run(*_: object, **__: object) -> None:
        raise AssertionError("the tower ran again")

    monkeypatch.setattr(sliding, "extract_features", run)
    again = segmenter.freeze(image, file=tmp_path / "kept")
    assert (frozen.is_stored, again.is_stored) == (False, True)
    assert again.nbytes == frozen.nbytes
    for changed in ({}, {"words": ["boat", "hat"], "prob_thd": 0.2}):
        before = scores_of(frozen(scores=True, **changed))  # type: ignore[arg-type]
        after = scores_of(again(scores=True, **changed))  # type: ignore[arg-type]
        assert np.abs(after - before).max() < 0.02


def test_the_file_is_half_as_large(segmenter: tagmask.Segmenter, image: np.ndarray, tmp_path: Path) -> None:
    frozen = segmenter.freeze(image)
    frozen.save(tmp_path / "kept")
    features = sum(t.numel() for batch in frozen._windows.batches for t in batch.tensors())
    assert 2 * features < (tmp_path / "kept").stat().st_size < 2 * features + 5000


def changed_file(path: Path, what: str) -> None:
    """Damage a file, or make it one of something else."""
    data = path.read_bytes()
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    name = next(iter(tensors))
    if what == "torn":
        path.write_bytes(data[:-100])
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "one bit":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif what == "a number":
        tensors[name][0, 0, 0] += 1
        save_file(tensors, path, metadata)
    elif what == "less":
        save_file({}, path, metadata)
    elif what == "another kind":
        save_file(tensors, path, {**metadata, "tagmask": "head"})
    elif what == "without metadata":
        save_file(tensors, path)
    elif what == "a link":
        path.rename(path.with_name("target"))
        path.symlink_to("target")
    elif what == "a folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    "what",
    [
        "torn",
        "empty",
        "one bit",
        "a number",
        "less",
        "another kind",
        "without metadata",
        "a link",
        "a folder",
    ],
)
def test_a_file_that_was_changed_is_not_used(
    segmenter: tagmask.Segmenter, image: np.ndarray, tmp_path: Path, what: str
) -> None:
    frozen = segmenter.freeze(image)
    frozen.save(tmp_path / "kept")
    changed_file(tmp_path / "kept", what)
    again = segmenter.freeze(image, file=tmp_path / "kept")
    assert not again.is_stored
    assert np.array_equal(again().labels, frozen().labels)


def test_features_of_something_else_are_not_used(
    segmenter: tagmask.Segmenter,
    tagclip_model: Clip,
    variants_model: Clip,
    image: np.ndarray,
    tmp_path: Path,
) -> None:
    file = tmp_path / "kept"
    segmenter.freeze(image).save(file)
    other_image = image.copy()
    other_image[0, 0, 0] ^= 1
    assert not segmenter.freeze(other_image, file=file).is_stored
    for clip, settings in (
        (variants_model, {}),
        (tagclip_model, {"method": "naclip"}),
        (tagclip_model, {"short_side": 96}),
        (tagclip_model, {"stride": 48}),
    ):
        other = tagmask.Segmenter(clip, WORDS, background=BACKGROUND, **{**BASE, **settings})
        assert not other.freeze(image, file=file).is_stored
    words = tagmask.Segmenter(tagclip_model, ["hat"], background=["sky"], **BASE, prob_thd=0.4)
    assert words.freeze(image, file=file).is_stored  # which are no part of the features
    assert not segmenter.freeze(image, file=tmp_path / "none").is_stored


def test_a_forged_checksum_of_other_shapes(
    segmenter: tagmask.Segmenter, image: np.ndarray, tmp_path: Path
) -> None:
    """Even a file whose checksum fits is used only where its tensors fit the image's windows."""
    segmenter.freeze(image).save(tmp_path / "kept")
    with safe_open(tmp_path / "kept", "pt") as file:
        described = {key: value for key, value in file.metadata().items() if key != "checksum"}
    tensors = {name: tensor[:-1].contiguous() for name, tensor in load_file(tmp_path / "kept").items()}
    checksum = frozen_files._checksum(described, tensors)
    save_file(tensors, tmp_path / "kept", {**described, "checksum": checksum})
    assert not segmenter.freeze(image, file=tmp_path / "kept").is_stored


def test_numbers_beyond_float16_are_not_written(
    segmenter: tagmask.Segmenter, image: np.ndarray, tmp_path: Path
) -> None:
    frozen = segmenter.freeze(image)
    patches = frozen._windows.batches[0].patches
    assert patches is not None
    with torch.inference_mode():
        patches[0, 0, 0] = 1e6
    with pytest.raises(InputError, match="float16 cannot hold"):
        frozen.save(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()

"""`tagmask mask --proposals`: regions of another program."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask.clip.load import Clip
from tests.cli.masking import (
    BACKGROUND,
    OPTIONS,
    WORDS,
    _weights,
    done,
    fields_in,
    images_in,
    labels_in,
    masked,
    out,
    photos,
)

__all__ = ["_weights", "out", "photos"]

SIZE = (60, 80)


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    """Regions of the images a, b and sub/c, each in another form."""
    folder = tmp_path / "regions"
    (folder / "sub").mkdir(parents=True)
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 3:30, :50] = masks[1, 10:20, 5:75] = True
    run_lengths = [{"segmentation": {"size": list(SIZE), "counts": [600, 1800, 2400]}}]
    (folder / "a.json").write_text(json.dumps(run_lengths))
    np.savez_compressed(folder / "b.npz", masks=masks)
    PILImage.fromarray(np.where(masks[0], np.uint16(300), np.uint16(0))).save(folder / "sub" / "c.png")
    return folder


@pytest.mark.parametrize("method", [None, "cls-seg"])
def test_each_region_gets_one_word(
    photos: Path, out: Path, regions: Path, sclip_model: Clip, method: str | None
) -> None:
    more = ("--method", method) if method else ()
    masked(photos, *OPTIONS, "--proposals", regions, *more, "-o", out)
    segmenter = tagmask.Segmenter(
        sclip_model, WORDS, background=BACKGROUND, **({"method": method} if method else {})
    )
    files = {"a": regions / "a.json", "b": regions / "b.npz", "c": regions / "sub" / "c.png"}
    found = labels_in(out)
    assert set(found) == set(files)
    for name, labels in found.items():
        expected = segmenter(images_in(photos)[name], proposals=files[name])
        np.testing.assert_array_equal(labels, expected.labels)
    assert len(np.unique(found["c"][3:30, :50])) == 1
    assert set(fields_in(out)["proposals"]) == {"files"}


def test_a_run_goes_on_with_the_same_proposals_only(photos: Path, out: Path, regions: Path) -> None:
    masked(photos, *OPTIONS, "--proposals", regions, "-o", out)
    assert "3 of 3 were done" in masked(photos, *OPTIONS, "--proposals", regions, "-o", out)
    stderr = masked(photos, *OPTIONS, "-o", out, code=2)
    assert "run with other settings: proposals.files was sha256" in stderr
    (regions / "a.json").write_text("[]")
    stderr = masked(photos, *OPTIONS, "--proposals", regions, "-o", out, code=2)
    assert "run with other settings: proposals.files was sha256" in stderr


def test_a_run_without_proposals_has_the_identity_that_it_had(photos: Path, out: Path) -> None:
    masked(photos, *OPTIONS, "-o", out)
    assert "proposals" not in fields_in(out)


def test_images_without_proposals_or_with_damaged_ones_fail_alone(
    photos: Path, out: Path, regions: Path
) -> None:
    (regions / "a.json").unlink()
    (regions / "b.npz").write_bytes(b"PK\3\4 damaged")
    stderr = masked(photos, *OPTIONS, "--proposals", regions, "-o", out, code=1)
    assert "note: 1 of 3 images have no region proposals and will fail, such as a.png." in stderr
    assert f"failed: {photos / 'a.png'}: No region proposals for the image 'a.png'." in stderr
    assert f"The region proposals {regions / 'b.npz'} cannot be used: it is cut off" in stderr
    assert "1 of 3 images done" in stderr
    assert set(labels_in(out)) == {"c"}


def test_one_coco_file(photos: Path, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(("a", "b", "sub/c"))]
    whole = {"size": list(SIZE), "counts": [0, 4800]}
    annotations = [{"image_id": i, "segmentation": whole} for i in range(3)]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    masked(photos, *OPTIONS, "--proposals", file, "-o", out)
    assert [len(np.unique(labels)) for labels in labels_in(out).values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--proposals", "absent", *OPTIONS], "There is no file or folder absent. Give a folder of region"),
        (["--proposals", "sam2:x/y", *OPTIONS], "needs transformers. Run: pip install 'tagmask[sam]'"),
        (["--proposals", "x", "--compare", "clip,sclip", *OPTIONS], "--proposals"),
        (["--proposals", "x", "--student", "s.pt"], "--proposals and --student exclude each other"),
    ],
)
def test_refusals(
    options: list[str], message: str, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: None)
    monkeypatch.setenv("TAGMASK_WEIGHTS", "absent.pt")  # refused before weights are loaded
    assert message in done("mask", photos, *options, "-o", out, code=2)
    assert not out.exists()

"""Files of region proposals: every form, names, identity, and files that are damaged or hostile."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage
from pycocotools import mask as coco

from tagmask.data.regions import RegionWork
from tagmask.errors import InputError
from tagmask.proposals import arrays, files
from tagmask.proposals.files import open_proposals, read_proposals
from tagmask.regions.proposals import Proposals

SIZE = (6, 9)
IMAGE = np.zeros((*SIZE, 3), np.uint8)


@pytest.fixture
def masks() -> np.ndarray:
    masks = np.zeros((3, *SIZE), bool)
    masks[0, :, 2:5] = True
    masks[1, 1:3, 1:8] = True
    masks[2, 5, 8] = True
    return masks


def compressed(mask: np.ndarray) -> dict[str, Any]:
    runs = coco.encode(np.asfortranarray(mask.view(np.uint8)))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def plain(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


def generated(mask: np.ndarray) -> dict[str, Any]:
    """As SAM's automatic mask generator gives it."""
    return {
        "segmentation": compressed(mask),
        "area": int(mask.sum()),
        "bbox": [0, 0, 1, 1],
        "predicted_iou": 0.9,
        "point_coords": [[1.5, 2.5]],
        "stability_score": 0.97,
        "crop_box": [0, 0, 9, 6],
    }


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def coco_file(path: Path, masks: np.ndarray, names: list[str]) -> Path:
    images = [{"id": 7 + i, "file_name": name, "height": 6, "width": 9} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "image_id": 7, "category_id": 1, **generated(mask)} for i, mask in enumerate(masks)
    ]
    return write_json(path, {"images": images, "annotations": annotations, "categories": []})


FORMS: dict[str, Callable[[np.ndarray], object]] = {
    "compressed": lambda masks: [compressed(mask) for mask in masks],
    "plain": lambda masks: [plain(mask) for mask in masks],
    "generated": lambda masks: [generated(mask) for mask in masks],
    "generated, plain": lambda masks: [{"segmentation": plain(mask)} for mask in masks],
    "object": lambda masks: {"image": {"width": 9}, "annotations": [generated(mask) for mask in masks]},
}


@pytest.mark.parametrize("form", FORMS)
def test_json_of_every_form(form: str, masks: np.ndarray, tmp_path: Path) -> None:
    found = read_proposals(write_json(tmp_path / "a.json", FORMS[form](masks)), SIZE)
    np.testing.assert_array_equal(found.index_map(), Proposals.of_masks(masks, SIZE).index_map())
    assert found.areas.tolist() == [18, 14, 1]


def test_polygons_and_byte_order_mark(tmp_path: Path) -> None:
    polygons = [{"segmentation": [[0, 0, 2, 0, 2, 6, 0, 6], [1, 0, 4, 0, 4, 3, 1, 3]]}]
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(polygons).encode())
    expected = np.zeros(SIZE, bool)
    expected[:, :2] = expected[:3, :4] = True
    found = read_proposals(tmp_path / "a.json", SIZE)
    np.testing.assert_array_equal(found.index_map() == 0, expected)


@pytest.mark.parametrize("value", [[], {"annotations": []}])
def test_no_regions(value: object, tmp_path: Path) -> None:
    assert len(read_proposals(write_json(tmp_path / "a.json", value), SIZE)) == 0


@pytest.mark.parametrize("dtype", [bool, np.uint8])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("key", ["masks", "arr_0"])
def test_npz(dtype: type, save: Any, key: str, masks: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **{key: masks.astype(dtype)})
    found = read_proposals(tmp_path / "a.npz", SIZE)
    np.testing.assert_array_equal(found.index_map(), Proposals.of_masks(masks, SIZE).index_map())


def test_npz_with_other_arrays(masks: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", scores=np.zeros(3), masks=masks)
    assert len(read_proposals(tmp_path / "a.npz", SIZE)) == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_index_png(dtype: Any, tmp_path: Path) -> None:
    labels = np.zeros(SIZE, dtype)
    labels[1:4, 2:6] = np.iinfo(dtype).max
    labels[0, 0] = 1
    PILImage.fromarray(labels).save(tmp_path / "a.png")
    found = read_proposals(tmp_path / "a.png", SIZE)
    np.testing.assert_array_equal(found.index_map(), np.array([-1, 1, 0])[np.sign(labels) + (labels > 1)])


# -- Folders and names ---------------------------------------------------------------------------------------


def test_a_file_for_each_image(masks: np.ndarray, tmp_path: Path) -> None:
    write_json(tmp_path / "sub" / "a.json", FORMS["generated"](masks))
    np.savez(tmp_path / "b.npz", masks=masks[:2])
    PILImage.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "c.png.png")
    write_json(tmp_path / "c.json", [])
    write_json(tmp_path / ".hidden" / "d.json", [])
    source = open_proposals(tmp_path)
    names = [PurePosixPath(name) for name in ("sub/a.jpg", "b.tif", "c.png", "c.jpg", "a.jpg", "d.jpg")]
    assert source.missing(names) == [PurePosixPath("a.jpg"), PurePosixPath("d.jpg")]
    assert [len(source.of(name, IMAGE)) for name in names[:4]] == [3, 2, 1, 0]
    with pytest.raises(InputError, match=r"No region proposals for the image 'a\.jpg'\. Expected a with"):
        source.of(names[4], IMAGE)


def test_files_that_may_be_of_two_images_are_refused(masks: np.ndarray, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [])
    write_json(tmp_path / "b.json", [])
    np.savez(tmp_path / "b.npz", masks=masks)
    source = open_proposals(tmp_path)
    with pytest.raises(InputError, match=r"may be of a\.jpg or a\.png\. Name them a\.png\.json"):
        source.missing([PurePosixPath("a.jpg"), PurePosixPath("a.png")])
    with pytest.raises(InputError, match=r"b\.json and b\.npz\. Keep one"):
        source.of(PurePosixPath("b.jpg"), IMAGE)


@pytest.mark.parametrize("in_folder", [False, True])
def test_one_coco_file_for_all(in_folder: bool, masks: np.ndarray, tmp_path: Path) -> None:
    file = coco_file(tmp_path / "all.json", masks, ["sub/a.jpg", "b.jpg"])
    source = open_proposals(tmp_path if in_folder else file)
    names = [PurePosixPath(name) for name in ("sub/a.jpg", "b.jpg", "other/a.jpg", "c.jpg")]
    assert source.missing(names) == names[2:]
    assert [len(source.of(name, IMAGE)) for name in names[:2]] == [3, 0]
    assert len(source.of(PurePosixPath("a.png"), IMAGE)) == 3  # given as a file, it has no folder
    with pytest.raises(InputError, match=r"No region proposals for the image 'c\.jpg'"):
        source.of(names[3], IMAGE)
    with pytest.raises(
        InputError, match=r"all\.json says that b\.jpg is \(6, 9\) \(h, w\), but it is \(9, 6\)"
    ):
        source.of(names[1], np.zeros((9, 6, 3), np.uint8))


def test_images_of_one_name_in_a_coco_file_are_told_apart(masks: np.ndarray, tmp_path: Path) -> None:
    source = open_proposals(coco_file(tmp_path / "all.json", masks, ["sub/a.jpg", "other/a.jpg"]))
    assert len(source.of(PurePosixPath("sub/a.jpg"), IMAGE)) == 3
    assert len(source.of(PurePosixPath("other/a.jpg"), IMAGE)) == 0
    with pytest.raises(InputError, match=r"lists 2 images that may be a\.jpg"):
        source.of(PurePosixPath("a.jpg"), IMAGE)
    one = open_proposals(coco_file(tmp_path / "one.json", masks, ["a.jpg"]))
    with pytest.raises(InputError, match=r"may be of x/a\.jpg or y/a\.jpg"):
        one.missing([PurePosixPath("x/a.jpg"), PurePosixPath("y/a.jpg")])


@pytest.mark.parametrize("kind", ["folder", "coco"])
def test_identity_is_that_of_all_contents_and_names(kind: str, masks: np.ndarray, tmp_path: Path) -> None:
    def identity() -> object:
        return open_proposals(tmp_path).identity

    first = tmp_path / "a.json"
    if kind == "folder":
        write_json(first, FORMS["plain"](masks))
        write_json(tmp_path / "b.json", [])
    else:
        coco_file(first, masks, ["a.jpg"])
    before = identity()
    assert identity() == before
    first.write_bytes(first.read_bytes() + b"\n")
    assert identity() != before
    if kind == "folder":
        changed = identity()
        (tmp_path / "b.json").rename(tmp_path / "c.json")
        assert identity() != changed


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file or folder .*Give a folder of region proposals"):
        open_proposals(tmp_path / "absent")
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(InputError, match=r"has no region proposals\. Expected files ending in"):
        open_proposals(tmp_path)


# -- Damaged and hostile files -------------------------------------------------------------------------------


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def zipped(content: bytes, name: str = "masks.npy", how: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def header(shape: str, kind: str = "|b1", fortran: str = "False") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def rle(counts: object, size: object = (6, 9)) -> bytes:
    return json.dumps([{"size": size, "counts": counts}]).encode()


HOSTILE = {
    "a.json": {
        "not JSON": (b"[{", "cannot be used: "),
        "a number": (b"3", "neither a list of regions nor an object|Expecting"),
        "no annotations": (b'{"masks": []}', "neither a list of regions nor an object"),
        "annotations are text": (b'{"annotations": "x"}', "region 1 is invalid: it is no object"),
        "deep": (b"[" * 100_000, "nested too deeply"),
        "a mask": (b"[[[true]]]", "region 1 is invalid: it is no object"),
        "other size": (rle([54], (9, 6)), r"run lengths are for size \[9, 6\], the image is \[6, 9\]"),
        "too short": (rle([5, 3]), "cover 8 of 54 pixels"),
        "too long": (rle([50, 300]), "neither text nor whole numbers"),
        "negative": (rle([60, -6]), "neither text nor whole numbers"),
        "huge": (rle([10**30]), "neither text nor whole numbers"),
        "thousands of digits": (b'[{"size": [6, 9], "counts": [' + b"1" * 5000 + b"]}]", "cannot be used"),
        "fractions": (rle([1.5, 52.5]), "neither text nor whole numbers"),
        "bad text": (rle("\u00ff!"), "run lengths are damaged"),
        "cut off": (rle("o"), "cut off"),
        "long text": (rle("0" * 100_000), "more run lengths than pixels"),
        "NaN": (b'[{"size": [6, 9], "counts": NaN}]', "NaN"),
        "polygon": (json.dumps([{"segmentation": [[1, 2, 3]]}]).encode(), "3 coordinates"),
    },
    "a.npz": {
        "not a zip": (b"PK\3\4" + bytes(100), "cut off, or not a .npz"),
        "empty": (b"", "cut off, or not a .npz"),
        "code": (npz(masks=np.array([_Code()], object)), r"type \|O, not bool"),
        "a pickle": (pickle.dumps([1]), "cut off, or not a .npz"),
        "floats": (npz(masks=np.zeros((1, 6, 9))), "type <f8, not bool"),
        "two arrays": (npz(a=np.zeros(1), b=np.zeros(1)), "has the arrays a.npy, b.npy"),
        "two sides": (npz(masks=np.zeros((6, 9), bool)), r"masks are \(6, 9\), expected \(n, 6, 9\)"),
        "other size": (npz(masks=np.zeros((2, 9, 6), bool)), r"masks are \(2, 9, 6\), expected \(n, 6, 9\)"),
        "column order": (npz(masks=np.zeros((2, 6, 9), bool, order="F")), "column order"),
        "many": (zipped(header("(99999999, 6, 9)")), "has 99999999 masks"),
        "cut off": (zipped(header("(5, 6, 9)") + bytes(54)), "it is cut off"),
        "too long": (zipped(header("(1, 6, 9)") + bytes(60)), "longer than its header says"),
        "odd": (zipped(header("(1, 6, 9)") + bytes(54), how=zipfile.ZIP_BZIP2), "compressed in a way"),
        "no header": (zipped(b"x" * 200), "not an array saved by numpy.save"),
        "damaged": (zipped(header("(1, 6, 9)") + bytes(54))[:60] + b"\xff" * 200, "cut off|not a"),
    },
    "a.png": {
        "not a PNG": (b"GIF89a", "cannot be used"),
        "empty": (b"", "cannot be used"),
        "huge": (bytes(2_000_000), "it has more than"),
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in HOSTILE for case in HOSTILE[name]])
def test_hostile_files_are_one_short_error(name: str, case: str, tmp_path: Path) -> None:
    data, message = HOSTILE[name][case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        read_proposals(tmp_path / name, SIZE)
    assert str(error.value).startswith(f"The region proposals {tmp_path / name} cannot be used: ")
    assert len(str(error.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("mode", ["RGB", "1", "I;16"])
def test_index_pngs_of_another_kind_or_size_are_refused(mode: str, tmp_path: Path) -> None:
    size = (9, 6) if mode != "I;16" else (8, 6)
    PILImage.new(mode, size).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"cannot be used: .*(8- or 16-bit grey|expected bool)"):
        read_proposals(tmp_path / "a.png", SIZE)


def test_a_zip_bomb_is_read_mask_by_mask_and_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (1000, 1000)
    np.savez_compressed(tmp_path / "a.npz", masks=np.zeros((60, *size), bool))
    assert (tmp_path / "a.npz").stat().st_size < 100_000
    tracemalloc.start()
    assert len(read_proposals(tmp_path / "a.npz", size)) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    monkeypatch.setattr(arrays, "_VALUES", 50_000_000)
    with pytest.raises(InputError, match="has 60 masks of 1000 x 1000; save run lengths"):
        read_proposals(tmp_path / "a.npz", size)


def test_regions_that_cover_the_image_too_often_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_spent(pixels: int) -> RegionWork:
        work = RegionWork(pixels)
        work.paint(100_000_000 + 97 * pixels)
        return work

    monkeypatch.setattr("tagmask.proposals.annotations.RegionWork", nearly_spent)
    whole = {"size": list(SIZE), "counts": [0, 54]}
    assert len(read_proposals(write_json(tmp_path / "a.json", [whole] * 3), SIZE)) == 3
    with pytest.raises(
        InputError, match="region 4 is invalid: with it, regions cover the image more than 100"
    ):
        read_proposals(write_json(tmp_path / "a.json", [whole] * 4), SIZE)


def test_large_json_and_pipes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_JSON_LIMIT", 100)
    write_json(tmp_path / "a.json", [0] * 100)
    with pytest.raises(InputError, match="it has more than"):
        read_proposals(tmp_path / "a.json", SIZE)
    os.mkfifo(tmp_path / "b.npz")
    with pytest.raises(InputError, match="it is a pipe"):
        read_proposals(tmp_path / "b.npz", SIZE)
    with pytest.raises(InputError, match="it is a pipe"):
        open_proposals(tmp_path).identity  # noqa: B018


COCO_HOSTILE = {
    "not JSON": ("{", "no COCO file of region proposals"),
    "list": ("[]", "no COCO file of region proposals"),
    "no images": ('{"annotations": []}', "has no list of images"),
    "no id": ('{"images": [{"file_name": "a"}]}', "has no id of its own"),
    "same id": ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}', "has no id of its"),
    "no name": ('{"images": [{"id": 1, "file_name": 3}]}', "no file_name"),
    "unknown image": ('{"images": [], "annotations": [{"image_id": 3}]}', "image 3, which it does not list"),
    "odd image": ('{"images": [], "annotations": [{"image_id": "x"}]}', "'x', not of a whole number"),
    "deep": ('{"images": ' + "[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("case", COCO_HOSTILE)
def test_damaged_coco_files_are_one_short_error(case: str, tmp_path: Path) -> None:
    text, message = COCO_HOSTILE[case]
    (tmp_path / "all.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        open_proposals(tmp_path / "all.json")
    assert len(str(error.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/etc/passwd", "a\x00b", "\ud800", "../../a.jpg"])
def test_odd_names_in_a_coco_file_do_no_harm(name: str, tmp_path: Path) -> None:
    file = write_json(tmp_path / "all.json", {"images": [{"id": 1, "file_name": name}], "annotations": []})
    assert open_proposals(file).missing([PurePosixPath("b.jpg")]) == [PurePosixPath("b.jpg")]


def test_one_bad_region_of_a_coco_file_fails_with_its_image(masks: np.ndarray, tmp_path: Path) -> None:
    file = coco_file(tmp_path / "all.json", masks, ["a.jpg"])
    file.write_text(file.read_text().replace('"size": [6, 9]', '"size": [6, 8]', 1))
    with pytest.raises(InputError, match=r"proposals of a\.jpg in .* cannot be used: region 1 is invalid"):
        open_proposals(file).of(PurePosixPath("a.jpg"), IMAGE)

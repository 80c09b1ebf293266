"""CLIP-ES's files of activation maps: read as its program writes them, written so that NumPy reads them."""

import io
import pickle
import pickletools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tagmask.clip.load import Clip
from tagmask.errors import InputError, OutputError, ShapeError
from tagmask.papers import clip_es
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.weak.affinity_samples import crf_scores
from tagmask.weak.cam_files import read_cams
from tagmask.weak.cams import cam_labels
from tagmask.weak.stacked_cams import write_stacked_cams
from tests.papers.clip_es_texts import class_texts

GATE = Path(__file__).parents[1] / "golden" / "clipes_small.npz"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "clipes_voc_img0.npz"
SIZE = (13, 17)
KEYS = (4, 0, 7)


def stack(keys: int = 3, kind: str = "<f2", size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).random((keys, *size)).astype(kind)


def saved(path: Path, content: object, protocol: int = 4) -> Path:
    """A file as numpy.save writes a dict, with a chosen protocol."""
    wrapped = np.empty((), object)
    wrapped[()] = content
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(file.getvalue() + pickle.dumps(wrapped, protocol=protocol))
    return path


# -- Reading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_authors_files_are_read(tmp_path: Path, protocol: int, kind: str, order: str) -> None:
    maps = np.asarray(stack(kind=kind), order=order)
    content = {"keys": np.array(KEYS), "attn_highres": maps, "highres": np.ones(2), "strided_cam": None}
    found = read_cams(saved(tmp_path / "a.npy", content, protocol), 8, SIZE)
    assert list(found) == list(KEYS)
    for row, key in enumerate(KEYS):
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], maps[row].astype(np.float32))


@pytest.mark.parametrize("kind", ["i1", "u1", "<i4", ">i8", "<u8"])
def test_keys_of_any_whole_type_are_read(tmp_path: Path, kind: str) -> None:
    content = {"attn_highres": stack(), "keys": np.array(KEYS, kind)}
    assert list(read_cams(saved(tmp_path / "a.npy", content), 8)) == list(KEYS)


def test_of_equal_values_the_first_key_wins(tmp_path: Path) -> None:
    ones = np.ones((2, *SIZE), np.float16)
    file = saved(tmp_path / "a.npy", {"keys": np.array([5, 2]), "attn_highres": ones})
    assert (cam_labels(read_cams(file, 8, SIZE), 0.5, SIZE) == 6).all()
    by_class = saved(tmp_path / "b.npy", {5: ones[0], 2: ones[1]})
    assert (cam_labels(read_cams(by_class, 8, SIZE), 0.5, SIZE) == 3).all()


def test_one_map_is_in_memory_at_a_time(tmp_path: Path) -> None:
    side, count = 256, 24
    maps = stack(count, size=(side, side))
    write_stacked_cams(tmp_path / "a.npy", range(count), maps)
    tracemalloc.start()
    try:
        found = read_cams(tmp_path / "a.npy", count, (side, side))
        total = sum(float(found[c].sum(dtype=np.float64)) for c in found)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == pytest.approx(maps.sum(dtype=np.float64))
    assert peak < 6 * side * side * 4


INVALID = {
    "no maps": ({"keys": np.array(KEYS)}, "no array 'attn_highres'"),
    "maps before refinement only": ({"keys": np.array(KEYS), "highres": stack()}, "no array 'attn_highres'"),
    "one map": ({"keys": np.array([1]), "attn_highres": stack()[0]}, "no array 'attn_highres' of maps"),
    "a number": ({"keys": np.array(KEYS), "attn_highres": 3}, "no array 'attn_highres'"),
    "a list of keys": ({"keys": [1, 2, 3], "attn_highres": stack()}, "no list of whole numbers"),
    "keys that are floats": ({"keys": np.array(KEYS, float), "attn_highres": stack()}, "whole numbers"),
    "keys in rows": ({"keys": np.array([KEYS]), "attn_highres": stack()}, "whole numbers"),
    "too few keys": ({"keys": np.array(KEYS[:2]), "attn_highres": stack()}, "2 keys and 3 maps"),
    "more maps than classes": ({"keys": np.arange(9), "attn_highres": stack(9)}, "at most 8"),
    "a key twice": ({"keys": np.array([1, 2, 1]), "attn_highres": stack()}, "two maps of one class"),
    "an unknown class": ({"keys": np.array([1, 2, 8]), "attn_highres": stack()}, "map for class 8"),
    "a negative class": ({"keys": np.array([1, 2, -1]), "attn_highres": stack()}, "map for class -1"),
    "maps of integers": ({"keys": np.array(KEYS), "attn_highres": stack().astype(np.int32)}, "of <i4"),
    "objects": ({"keys": np.array(KEYS), "attn_highres": np.full((3, 2, 2), None, object)}, "of O"),
    "no pixels": ({"keys": np.array(KEYS), "attn_highres": stack(size=(0, 5))}, r"\(0, 5\)"),
    "not numbers": ({"keys": np.array(KEYS), "attn_highres": np.full((3, 2, 2), np.nan)}, "NaN"),
    "a class among the names": ({"keys": np.array(KEYS), 4: stack()[0]}, "no array 'attn_highres'"),
}  # fmt: skip


@pytest.mark.parametrize("what", INVALID)
def test_invalid_files_are_refused(tmp_path: Path, what: str) -> None:
    content, message = INVALID[what]
    with pytest.raises(InputError, match=rf"a\.npy.*{message}"):
        read_cams(saved(tmp_path / "a.npy", content), 8)


def test_maps_of_another_size_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.npy", {"keys": np.array(KEYS), "attn_highres": stack()})
    with pytest.raises(ShapeError, match=r"class 4 is \(13, 17\), but the image is \(17, 13\)"):
        read_cams(file, 8, (17, 13))


def lying(side: int, real: int) -> bytes:
    """A file whose map array claims another number of rows than it has, near the end of the pickle."""
    file = io.BytesIO()
    content = np.empty((), object)
    content[()] = {"keys": np.array(KEYS), "attn_highres": stack(size=(real, 4))}
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    pickled = pickle.dumps(content, protocol=2)
    shape = b"K\x03K" + bytes([real]) + b"K\x04\x87"
    assert pickled.count(shape) == 1
    return file.getvalue() + pickled.replace(shape, b"K\x03J" + side.to_bytes(4, "little") + b"K\x04\x87")


@pytest.mark.parametrize("side", [3, 6, 1 << 30])
def test_shapes_that_the_content_does_not_fill_are_refused(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.npy").write_bytes(lying(side, 5))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.npy.*(other content than its shape|more values)"):
            read_cams(tmp_path / "a.npy", 8)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_many_keys_are_refused_before_they_are_read(tmp_path: Path) -> None:
    count = 1_000_000
    content = {"keys": np.arange(count, dtype=np.int32), "attn_highres": np.zeros((count, 1, 1), np.float16)}
    file = saved(tmp_path / "a.npy", content)
    del content
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="at most 8"):
            read_cams(file, 8)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    write_stacked_cams(tmp_path / "a.npy", KEYS, stack())
    data = (tmp_path / "a.npy").read_bytes()
    for length in range(0, len(data) - 1, 7):
        (tmp_path / "cut.npy").write_bytes(data[:length])
        with pytest.raises(InputError, match=r"cut\.npy"):
            read_cams(tmp_path / "cut.npy", 8)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (self.path,)  # type: ignore[return-value]


def test_code_beside_the_maps_is_refused_and_not_run(tmp_path: Path) -> None:
    content = {"keys": np.array(KEYS), "attn_highres": stack(), "x": Trap(tmp_path / "created")}
    with pytest.raises(InputError, match=r"Refused .*a\.npy"):
        read_cams(saved(tmp_path / "a.npy", content), 8)
    assert not (tmp_path / "created").exists()


# -- Writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [KEYS, (3,), ()])
def test_numpy_reads_what_is_written_bit_for_bit(tmp_path: Path, keys: tuple[int, ...]) -> None:
    maps = stack(len(keys))
    write_stacked_cams(tmp_path / "sub" / "a.npy", keys, maps)
    found = np.load(tmp_path / "sub" / "a.npy", allow_pickle=True).item()
    assert set(found) == {"keys", "attn_highres"}
    assert (found["keys"].dtype, found["attn_highres"].dtype) == (np.int64, np.float16)
    assert found["attn_highres"].tobytes() == maps.tobytes()
    assert found["attn_highres"].shape == maps.shape
    assert tuple(found["keys"] + 1) == tuple(key + 1 for key in keys)  # as the authors' evaluation counts
    read = read_cams(tmp_path / "sub" / "a.npy", 8, SIZE)
    assert list(read) == list(keys)
    assert all(np.array_equal(read[key], maps[row]) for row, key in enumerate(keys))


def test_arrays_in_any_order_in_memory_are_written(tmp_path: Path) -> None:
    maps = np.asfortranarray(stack())[:, ::2, ::-1]
    write_stacked_cams(tmp_path / "a.npy", KEYS, maps)
    found = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    np.testing.assert_array_equal(found["attn_highres"], maps)


def test_files_name_only_what_every_numpy_knows(tmp_path: Path) -> None:
    write_stacked_cams(tmp_path / "a.npy", KEYS, stack())
    data = (tmp_path / "a.npy").read_bytes()
    names = {
        arg for code, arg, _ in pickletools.genops(data[data.index(b"\n") + 1 :]) if code.name == "GLOBAL"
    }
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="2 keys and 3 maps"):
        write_stacked_cams(tmp_path / "a.npy", (1, 2), stack())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_stacked_cams(tmp_path / "file" / "a.npy", KEYS, stack())
    assert not (tmp_path / "a.npy").exists()


# -- CLIP-ES -------------------------------------------------------------------------------------------------


def test_files_at_one_half_give_the_labels_of_clip_es(
    tmp_path: Path, tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    settings, tags = ClipEsSettings(), (11, 0, 5)
    size = (shapes[0].shape[0], shapes[0].shape[1])
    tower = clip_es.encode_image(tagclip_model, shapes[0], settings)
    maps = clip_es.tag_maps(tagclip_model, tower, class_texts(tagclip_model), tags, settings)
    wanted, planes = clip_es.label_pixels(maps, size, tags, settings, ignore_index=255, keep_scores=True)
    full = clip_es.full_size_maps(maps, size)
    assert planes is not None
    np.testing.assert_array_equal(full, planes[1:])
    write_stacked_cams(tmp_path / "a.npy", tags, full)
    found = cam_labels(read_cams(tmp_path / "a.npy", 20, size), 0.5, size)
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, wanted)


def test_every_pair_of_half_floats_is_labelled_as_clip_es_does() -> None:
    values = np.linspace(0, 1, 4097).astype(np.float16)
    values = np.concatenate([values, np.nextafter(np.float16(0.5), np.float16([0, 1]))])
    background = (1 - values) ** np.float16(1)  # in float16, as coded
    wanted = np.where(values > background, 1, 0)
    found = cam_labels({0: values[None].astype(np.float32)}, 0.5, (1, len(values)))
    np.testing.assert_array_equal(found[0], wanted)


@pytest.mark.parity
def test_the_authors_planes_give_the_authors_labels(tmp_path: Path) -> None:
    pack = np.load(SHARED)
    planes, label = pack["voc/img0/attn_highres_fp16"], pack["voc/img0/label"]
    content = {"keys": pack["voc/img0/keys"], "attn_highres": planes}
    file = saved(tmp_path / "img0.npy", content)
    size = (label.shape[0], label.shape[1])
    np.testing.assert_array_equal(cam_labels(read_cams(file, 20, size), 0.5, size), label)


def test_an_image_without_maps_is_background_for_the_affinity_network() -> None:
    scores = crf_scores(np.zeros((5, 6, 3), np.uint8), {}, 1)
    np.testing.assert_array_equal(scores, np.ones((1, 5, 6), np.float32))

"""Kinds of everything else: activation maps, annotations, settings, caches and MATLAB files."""

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image
import torch

from benchmarks.fuzz.archives import (
    mutate_mat,
    mutate_npy,
    mutate_safetensors,
    mutate_zip,
    sorted_safetensors,
)
from benchmarks.fuzz.kind import Believed, Kind
from benchmarks.fuzz.mutate import mutate_bytes
from benchmarks.fuzz.values import mutate_json, mutate_toml
from benchmarks.fuzz.weights import all_finite, made, miniature
from tagmask.data.instances import open_coco
from tagmask.data.lists import read_tags
from tagmask.data.mat_file import read_array
from tagmask.dense.prompts import text_features
from tagmask.pipelines.adaptation import Adaptation, read_adaptation, write_adaptation
from tagmask.resolve import own_tag_recipe, recipe
from tagmask.settings.files import write_recipe
from tagmask.variants.learned import Projection, read_projection, write_projection
from tagmask.weak.cams import read_cams
from tagmask.weak.config_files import load_config
from tagmask.weak.feature_cache import FeatureCache

__all__ = ["RECORDS"]

_CLASSES = 20


# -- Activation maps -----------------------------------------------------------------------------------------


def _maps() -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    return {label: rng.random((6, 8)).astype(np.float32) for label in (0, 7, 14)}


def _read_cams(path: Path) -> int:
    maps = read_cams(path, _CLASSES)
    for label, values in maps.items():
        if values.dtype != np.float32 or values.ndim != 2 or not np.isfinite(values).all():
            raise Believed(f"the map of class {label} is {values.dtype} {values.shape}")
    return sum(int(values.size) for values in maps.values())


def _cams_npy_kind() -> Kind:
    maps = _maps()
    header = io.BytesIO()
    np.save(header, np.array(None))
    start = header.getvalue()[: header.getvalue().index(b"\n") + 1]
    samples = []
    for content in (maps, {np.int64(label): values.astype(np.float16) for label, values in maps.items()}):
        array = np.array(None)
        array[()] = content
        samples += [start + pickle.dumps(array, protocol) for protocol in (2, 3, 4, 5)]
    return Kind(samples, _read_cams, (mutate_npy,), "maps.npy")


def _cams_npz_kind() -> Kind:
    samples = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **{str(label): values for label, values in _maps().items()})
        samples.append(file.getvalue())
    return Kind(samples, _read_cams, (mutate_zip,), "maps.npz")


# -- Annotations ---------------------------------------------------------------------------------------------


_COORDINATES = (0, 1, 8, 8.5, 12, 16, -1, -5e8, 5e8, 1e9, 2**31, 1e18, 1e300, float("nan"), float("inf"))


def _hostile_regions(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Give annotations polygons and run lengths that are valid JSON, and images other sizes."""
    try:
        tree = json.loads(data)
        for entry in rng.choices(tree["annotations"], k=2):
            polygon = [rng.choice(_COORDINATES) for _ in range(rng.choice((4, 6, 6, 7, 8, 200)))]
            counts = [rng.choice((0, 1, -1, 20, 172, 192, 2**31, 2**63)) for _ in range(rng.randrange(5))]
            size = [rng.choice((12, 16, 0, -1, 2**31)) for _ in range(2)]
            text = rng.choice(("", "0", "o" * 50, "d05W5", "~~", "é", "d05W5" * 9_000))
            runs = {"size": size, "counts": rng.choice((counts, text))}
            entry["segmentation"] = rng.choice(([polygon], [polygon] * 300, runs))
        if rng.random() < 0.3:
            image = rng.choice(tree["images"])
            image[rng.choice(("height", "width"))] = rng.choice((0, -1, 1.5, 65_536, 2**31, 2**63))
        return json.dumps(tree).encode()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):  # damaged already
        return mutate_json(data, others, rng)


def _coco_kind() -> Kind:
    height, width = 12, 16
    counts = "d05W5"  # 20, 5, 167
    regions = [
        [[0, 0, 8, 0, 8, 3, 0, 3], [6.5, 4, 8, 4, 8, 6, 6, 6]],
        {"size": [height, width], "counts": [20, 5, height * width - 25]},
        {"size": [height, width], "counts": counts},
        [[1, 1, 5, 1, 5, 5]],
    ]
    annotations = [
        {
            "id": i,
            "image_id": 1 + i // 3,
            "category_id": 1 + 2 * i,
            "area": 9.5,
            "iscrowd": 0,
            "segmentation": region,
        }
        for i, region in enumerate(regions)
    ]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i in (1, 2, 3)]
    whole = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": f"thing {i}"} for i in range(80)],
    }
    image = io.BytesIO()
    PIL.Image.new("RGB", (width, height)).save(image, "JPEG")

    def read(path: Path) -> int:
        folder, most = path.parents[1], 0
        for sample in open_coco(folder, "2017", "val").samples:
            if (
                sample.path is not None
                and (folder / "val2017").resolve() not in sample.path.resolve().parents
            ):
                raise Believed(f"an image outside the folder: {sample.path}")
            if sample.read_mask is not None:
                most = max(most, int(sample.read_mask().size))
        return most

    beside = {f"val2017/{i}.jpg": image.getvalue() for i in (1, 2, 3)}
    content = json.dumps(whole).encode()
    mutators = (mutate_json, mutate_json, _hostile_regions)
    return Kind((content,), read, mutators, "annotations/instances_val2017.json", beside)


def _tags_kind() -> Kind:
    def read(path: Path) -> int:
        read_tags(path, _CLASSES)
        return 0

    samples = (b"2007_000032 0 14\n2007_000033\n", b"\xef\xbb\xbfa 1\r\nb 2\r\n", "é 3\n".encode())
    return Kind(samples, read, (mutate_bytes,), "tags.txt")


def _mat_kind() -> Kind:
    def element(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    samples = []
    for packed in (False, True):
        whole = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
        for name in (b"names", b"LabelMap"):
            body = element(6, struct.pack("<II", 11, 0)) + element(5, struct.pack("<ii", 6, 8))
            body = element(14, body + element(1, name) + element(4, bytes(range(96))))
            whole += struct.pack("<II", 15, len(z := zlib.compress(body))) + z if packed else body
        samples.append(whole)

    def read(path: Path) -> int:
        return int(read_array(path, "LabelMap").size)

    return Kind(samples, read, (mutate_mat,), "labels.mat")


# -- Settings ------------------------------------------------------------------------------------------------


def _recipe_kind() -> Kind:
    recipes = (
        own_tag_recipe(method, ("cat", "dog, puppy"), ("wall",)) for method in ("tagclip", "clip-softmax")
    )
    samples = [made(partial(write_recipe, own)) for own in recipes]
    samples.append(b'words = ["cat"]\nbackground = []\ntemplates = ["{}"]\n\n[thresholds]\n"cat" = 0.31\n')

    def read(path: Path) -> int:
        recipe(path)
        return 0

    return Kind(samples, read, (mutate_toml,), "recipe.toml")


def _train_settings_kind() -> Kind:
    samples = (
        b'base = "weakclip/voc"\n\n[optimiser]\nlr = 1e-4\n\n[schedule]\nsteps = 10\n\n[run]\nseed = 1\n',
        b"[data]\nbatch = 2\n\n[loss]\nsize = 16\n",
    )

    def read(path: Path) -> int:
        load_config(path)
        return 0

    return Kind(samples, read, (mutate_toml,), "settings.toml")


def _adapter_kind() -> Kind:
    arrays = {"centres": np.random.default_rng(0).random((3, 8)).astype(np.float32)}
    content = Adaptation("piaa", ("cat", "dog"), "0" * 64, arrays)

    def read(path: Path) -> int:
        for name, array in read_adaptation(path).arrays.items():
            if not np.isfinite(array).all():
                raise Believed(f"{name} has NaN or infinite values")
        return 0

    sample = sorted_safetensors(made(lambda path: write_adaptation(content, path)))
    return Kind((sample,), read, (mutate_safetensors,), "adapter.safetensors")


def _projection_kind() -> Kind:
    torch.manual_seed(0)
    good = Projection(torch.randn(8, 8), torch.randn(8), "0" * 64, "not trained")

    def read(path: Path) -> int:
        projection = read_projection(path)
        all_finite({"matrix": projection.matrix})
        return 0

    sample = sorted_safetensors(made(lambda path: write_projection(path, good)))
    return Kind((sample,), read, (mutate_safetensors,), "projection.safetensors")


# -- Caches --------------------------------------------------------------------------------------------------


def _only_file(folder: Path) -> tuple[str, bytes]:
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    return file.relative_to(folder).as_posix(), file.read_bytes()


def _text_cache_kind() -> Kind:
    """An entry that is damaged must give the same features as none."""
    clip = miniature()

    def features(home: Path) -> torch.Tensor:
        before = os.environ.get("TAGMASK_HOME")
        os.environ["TAGMASK_HOME"] = str(home)
        try:
            return text_features(clip, ["cat"], ["a photo of a {}."])
        finally:
            if before is None:
                del os.environ["TAGMASK_HOME"]
            else:
                os.environ["TAGMASK_HOME"] = before

    with TemporaryDirectory() as folder:
        expected = features(Path(folder))
        place, content = _only_file(Path(folder))
    depth = place.count("/") + 1

    def read(path: Path) -> int:
        found = features(path.parents[depth - 1])
        if not torch.equal(found, expected):
            raise Believed("the features differ from those of an empty cache")
        return 0

    return Kind((content,), read, (mutate_npy, mutate_safetensors, mutate_bytes), place, quiet=True)


def _feature_cache_kind() -> Kind:
    """An entry that is damaged must count as missing."""
    torch.manual_seed(0)
    tensors = {"features": torch.randn(4, 6), "last": torch.randn(3)}
    key = "ab" * 20
    with TemporaryDirectory() as folder:
        FeatureCache(Path(folder), "network", 1 << 20).put(key, tensors)
        place, content = _only_file(Path(folder))
    depth = place.count("/") + 1

    def read(path: Path) -> int:
        found = FeatureCache(path.parents[depth - 1], "network", 1 << 20).get(key)
        if found is not None and (
            found.keys() != tensors.keys()
            or not all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
        ):
            raise Believed("the features differ from those that were stored")
        return 0

    return Kind((content,), read, (mutate_safetensors, mutate_bytes), place, quiet=True)


RECORDS: Mapping[str, Callable[[], Kind]] = {
    "cams-npy": _cams_npy_kind,
    "cams-npz": _cams_npz_kind,
    "coco": _coco_kind,
    "tags": _tags_kind,
    "mat": _mat_kind,
    "recipe": _recipe_kind,
    "train-settings": _train_settings_kind,
    "adapter": _adapter_kind,
    "projection": _projection_kind,
    "text-cache": _text_cache_kind,
    "feature-cache": _feature_cache_kind,
}
"""Other files, by name. Each makes its samples when it is called."""

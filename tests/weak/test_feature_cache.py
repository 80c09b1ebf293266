"""The feature cache: entries are read back, and only for the same crop and network."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from tagmask.weak.feature_cache import FeatureCache


def test_entries_are_read_back(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "weights", 10**6)
    crop = torch.rand(3, 4, 5)
    key = cache.key(crop)
    assert cache.get(key) is None
    kept = {"map": torch.rand(2, 3), "memory": torch.rand(1, 7)[:, ::2]}
    cache.put(key, kept)
    found = FeatureCache(tmp_path, "weights", 10**6).get(key)
    assert found is not None
    assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_another_crop_or_network_has_another_key(tmp_path: Path) -> None:
    cache, crop = FeatureCache(tmp_path, "weights", 10**6), torch.rand(3, 4, 5)
    nudged = crop.clone()
    nudged[0, 0, 0] += 1e-6
    others = [cache.key(crop.flip(-1)), cache.key(nudged), cache.key(crop.reshape(3, 5, 4))]
    assert len({cache.key(crop), FeatureCache(tmp_path, "others", 1).key(crop), *others}) == 5


def test_nothing_is_added_beyond_the_limit(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "weights", 1000)
    for name in ("aa", "bb", "cc"):
        cache.put(name, {"x": torch.zeros(100)})
    assert cache.get("bb") is not None
    assert cache.get("cc") is None
    FeatureCache(tmp_path, "weights", 1000).put("dd", {"x": torch.zeros(100)})
    assert not (tmp_path / "dd").exists()


def truncate(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[:50])


def negate(file: Path, other: Path) -> None:
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file({"x": -load_file(file)["x"]}, file, metadata)


def nan(file: Path, other: Path) -> None:
    save_file({"x": torch.full((100,), torch.nan)}, file)


def rename(file: Path, other: Path) -> None:
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file({"y": load_file(file)["x"]}, file, metadata)


def swap(file: Path, other: Path) -> None:
    shutil.copy(other, file)


def fifo(file: Path, other: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link(file: Path, other: Path) -> None:
    copy = shutil.copy(file, file.parent / "elsewhere")
    file.unlink()
    file.symlink_to(copy)


def dangling(file: Path, other: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize("damage", [truncate, negate, nan, rename, swap, fifo, link, dangling])
def test_a_damaged_entry_is_replaced_with_one_warning(
    damage: Callable[[Path, Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {"aa": {"x": torch.arange(100.0)}, "bb": {"x": torch.ones(100)}}
    first = FeatureCache(tmp_path, "weights", 1000)
    for key, tensors in entries.items():
        first.put(key, tensors)
    file, other = (tmp_path / key / f"{key}.safetensors" for key in entries)
    damage(file, other)
    cache = FeatureCache(tmp_path, "weights", 1000)
    assert cache.get("aa") is None
    assert cache.get("aa") is None
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "Cached features are damaged"
    ]
    assert str(file) in caplog.text
    cache.put("aa", entries["aa"])  # it fits: the damaged one takes no space
    found = cache.get("aa")
    assert found is not None
    assert torch.equal(found["x"], entries["aa"]["x"])


def test_a_folder_in_place_of_an_entry_is_left_alone(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "weights", 10**6)
    (tmp_path / "aa" / "aa.safetensors").mkdir(parents=True)
    assert cache.get("aa") is None
    cache.put("aa", {"x": torch.zeros(100)})
    assert cache.get("aa") is None

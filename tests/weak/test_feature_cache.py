"""The feature cache: entries are read back, and only for the same crop and network."""

from pathlib import Path

import torch

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


def test_a_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "weights", 10**6)
    cache.put("aa", {"x": torch.zeros(100)})
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:50])
    assert cache.get("aa") is None

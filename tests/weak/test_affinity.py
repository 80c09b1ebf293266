"""The affinity network: its sizes, training samples, training and resuming, and masks refined by it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from tagmask.errors import InputError, WeightsError
from tagmask.papers import psa
from tagmask.papers.mctformer import normalised
from tagmask.weak import affinity_samples
from tagmask.weak.affinity_net import AffinityNet, load_affinity, save_affinity, walked_labels
from tagmask.weak.affinity_samples import AffinitySamples, crf_scores, jittered_colours
from tagmask.weak.affinity_steps import AffinityTask, train_affinity
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config
from tagmask.weak.loop import Report
from tagmask.weak.map_files import write_maps
from tagmask.weak.samples import Pair
from tagmask.weak.train_log import read_log

SHARED = Path(__file__).parents[3] / "shared" / "golden"


def image_and_maps(
    size: tuple[int, int] = (72, 88), seed: int = 0
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """A red rectangle on noise; the map of class 1 is high in the middle of it."""
    h, w = size
    image = np.random.default_rng(seed).integers(60, 100, (h, w, 3), dtype=np.uint8)
    image[16:48, 24:64] = (200, 30, 30)
    cam = np.full((h, w), 0.05, np.float32)
    cam[16:48, 24:64] = 0.45
    cam[24:40, 32:56] = 1.0
    return image, {1: cam}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., TrainConfig]:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for i, name in enumerate(("a", "sub/b")):
        image, maps = image_and_maps(seed=i)
        PILImage.fromarray(image).save(tmp_path / "photos" / f"{name}.png")
        write_maps(tmp_path / "maps" / f"{name}.npz", maps)
    PILImage.fromarray(image).save(tmp_path / "photos" / "no-tags.png")
    tiny = [
        "affinity_base=1", "crop=96", "batch=2", "workers=0", "steps=4", "log_every=1", "checkpoint_every=2",
        "device=cpu", f"images={tmp_path / 'photos'}", f"seeds={tmp_path / 'maps'}", 'model.words=["a", "b"]',
    ]  # fmt: skip
    tiny = [each.replace("seeds=", "data.seeds=") for each in tiny]

    def make(*changes: str) -> TrainConfig:
        return load_config("mctformer/affinity", [*tiny, *changes])

    return make


def test_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        net = AffinityNet()
    assert sum(p.numel() for p in net.parameters()) == 106_484_032
    trunk, head = AffinityTask(net).groups()
    convolutions = [name for name, p in net.trunk.named_parameters() if p.ndim == 4]
    trained = [name for name in convolutions if name.split(".")[0] not in ("conv1a", "b2", "b2_1", "b2_2")]
    assert (len(convolutions), len(trunk.parameters), len(head.parameters)) == (43, len(trained), 4)
    assert (head.factor, net.head.f9.weight.shape[0]) == (10.0, 448)


def test_batch_norms_never_change() -> None:
    net = AffinityNet(1).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    assert net(torch.randn(2, 3, 32, 40)).shape == (2, 448, 4, 5)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert net.training
    assert net.trunk.b6.dropout_2b1.training


def test_scores_read_the_maps_with_two_backgrounds() -> None:
    image, maps = image_and_maps()
    low, high = (crf_scores(image, maps, power) for power in (1, 12))
    assert low.shape == (2, 72, 88)
    np.testing.assert_allclose(low.sum(axis=0), 1, atol=1e-4)
    assert low[1, 32, 40] > 0.9
    assert low[1, 18, 26] > 0.5  # the CRF fills the rectangle
    assert (high[0] < low[0] + 1e-4).all()
    assert high[0].mean() < low[0].mean()


def test_samples_are_crops_with_labels_of_their_cells(
    config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    pair = Pair("sub/b", tmp_path / "photos" / "sub" / "b.png", tmp_path / "maps" / "sub" / "b.npz")
    samples = AffinitySamples([pair], config("flip=0"), tmp_path / "scores")
    crop = samples.sample(0, 0).crop
    assert crop.pixels.shape == (3, 96, 96)
    assert crop.labels.shape == (12, 12)
    assert {0, 1, 255} >= set(np.unique(crop.labels).tolist()) > {1}
    black = (0 - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    outside = np.isclose(crop.pixels, black[:, None, None], atol=1e-5).all(axis=0)
    assert outside.sum() == 96 * 96 - 72 * 88
    cells = outside.reshape(12, 8, 12, 8).all(axis=(1, 3))
    assert (crop.labels[cells] == 255).all()
    reds = crop.pixels[0].reshape(12, 8, 12, 8).mean(axis=(1, 3))
    assert reds[crop.labels == 1].mean() > reds[crop.labels == 0].mean() + 0.5
    assert np.array_equal(samples.sample(0, 0).crop.pixels, crop.pixels)
    small = AffinitySamples([pair], config("flip=0", "crop=16"), tmp_path / "scores").sample(0, 0).crop
    assert small.labels.shape == (2, 2)


def test_labels_are_those_of_the_scores_and_flip_with_the_image(
    config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    image, maps = image_and_maps((96, 96))
    image[64:88, 8:40], maps[1][64:88, 8:40] = (30, 30, 200), 0.3  # a class only to the weak background
    PILImage.fromarray(image).save(tmp_path / "c.png")
    write_maps(tmp_path / "c.npz", maps)
    low, high = (torch.from_numpy(crf_scores(image, maps, power).astype(np.float16)) for power in (1, 12))
    wanted = psa.affinity_labels(low, high).numpy()
    assert set(np.unique(wanted).tolist()) == {0, 1, 255}
    pair = Pair("c", tmp_path / "c.png", tmp_path / "c.npz")
    plain, flipped = (
        AffinitySamples([pair], config(f"flip={flip}"), tmp_path / "scores").sample(0, 0).crop
        for flip in (0, 1)
    )
    np.testing.assert_array_equal(plain.labels, wanted)
    np.testing.assert_array_equal(flipped.labels, wanted[:, ::-1])
    assert plain.pixels[0, 32, 28] > plain.pixels[0, 32, 68] + 0.5
    assert flipped.pixels[0, 32, 67] > flipped.pixels[0, 32, 27] + 0.5


def test_the_crf_runs_once_per_image(
    config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair("a", tmp_path / "photos" / "a.png", tmp_path / "maps" / "a.npz")
    samples = AffinitySamples([pair], config(), tmp_path / "scores")
    first = samples.sample(0, 0).crop
    (tmp_path / "scores" / "a.npz").write_bytes((tmp_path / "scores" / "a.npz").read_bytes()[:-30])  # damaged
    assert np.array_equal(samples.sample(0, 0).crop.labels, first.labels)
    monkeypatch.setattr(affinity_samples, "dense_crf", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(samples.sample(0, 0).crop.labels, first.labels)


def test_colours_are_jittered_within_bounds() -> None:
    flat = np.full((8, 8, 3), (120, 90, 60), np.uint8)
    found = np.stack(
        [jittered_colours(flat, np.random.default_rng(seed))[0, 0] for seed in range(200)]
    ).astype(int)
    assert len(np.unique(found, axis=0)) > 150
    brightness = found.max(axis=1) / 120
    assert 0.5 < brightness.min() < 0.8
    assert 1.2 < brightness.max() < 1.8
    assert (found[:, 1] > found[:, 0]).any() or (found[:, 2] > found[:, 1]).any()  # the hue moves


def test_training_stops_resumes_and_lowers_the_loss(
    config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    def stop(report: Report) -> None:
        if report.step == 3:
            raise RuntimeError("stopped")

    whole = train_affinity(config(), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="stopped"):
        train_affinity(config(), tmp_path / "stopped", stop)
    resumed = train_affinity(config(), tmp_path / "stopped")
    one, two = load_file(whole), load_file(resumed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [row["step"] for row in read_log(tmp_path / "whole")] == [1, 2, 3, 4]
    train_affinity(config("steps=30"), tmp_path / "long")
    totals = [row["total"] for row in read_log(tmp_path / "long")]
    assert np.mean(totals[-5:]) < np.mean(totals[:5]) - 0.01
    write_maps(tmp_path / "maps" / "a.npz", {0: image_and_maps()[1][1]})
    with pytest.raises(InputError, match="maps was"):
        train_affinity(config(), tmp_path / "stopped")


def test_unusable_inputs_are_refused(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    for changes, message in (
        (["data.seeds="], "Give --images DIR --maps DIR"),
        ([f"data.seeds={tmp_path / 'none'}"], "has no maps of images"),
        (["model.words=[]"], "No words are given"),
        (["crop=60"], "Give a multiple of 8"),
        (["model.kind=mctformer"], "Give one of affinity"),
        (["model.weights=none.pth"], "none.pth"),
    ):
        with pytest.raises((InputError, WeightsError), match=message):
            train_affinity(config(*changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_are_walked_maps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = AffinityNet(1).eval()
    save_affinity(tmp_path / "net.safetensors", net)
    net = load_affinity(tmp_path / "net.safetensors", device="cpu")
    image, maps = image_and_maps((75, 90))
    maps[4] = np.ascontiguousarray(maps[1][::-1])
    labels = walked_labels(net, image, maps, 0.3)
    padded = F.pad(normalised(image), (0, 6, 0, 5))
    with torch.no_grad():
        affinities = psa.pair_affinities(net(padded))[0]
    wanted = psa.walked_maps(torch.from_numpy(np.stack([maps[1], maps[4]])), affinities, 0.3).argmax(dim=0)
    assert np.array_equal(labels, np.array([0, 2, 5])[wanted])
    assert len(np.unique(labels)) > 1
    assert not walked_labels(net, image, {}, 0.3).any()
    large = walked_labels(net, image.repeat(16, axis=1), {1: maps[1].repeat(16, axis=1)}, 0.3)
    assert large.shape == (75, 1440)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    net = AffinityNet(1)
    tensors = dict(net.state_dict())
    header = {"format": "tagmask affinity 1", "base": "1"}
    for metadata, change, message in (
        ({**header, "format": "x"}, {}, "is not an affinity network"),
        ({**header, "base": "many"}, {}, "is damaged"),
        ({**header, "base": "2"}, {}, "is damaged"),
    ):
        save_file({**tensors, **change}, tmp_path / "net.safetensors", metadata)
        with pytest.raises(WeightsError, match=message):
            load_affinity(tmp_path / "net.safetensors", device="cpu")


@pytest.mark.parity
@pytest.mark.parametrize("power", [1, 12])
def test_scores_agree_with_those_of_the_authors(power: int) -> None:
    """A permutohedral lattice and the published image, one level lower in 40 % of the values."""
    maps, pack = np.load(SHARED / "mct_dev.npz"), np.load(SHARED / "psa_dev.npz")
    cams = dict(zip(maps["gen/v2/s1/ms/keys"].tolist(), maps["gen/v2/s1/ms/map"], strict=True))
    scores = crf_scores(pack["crf/image"], cams, power)
    assert pack[f"crf/ms_{power}_keys"].tolist() == [0, *(1 + key for key in cams)]
    assert (scores.argmax(axis=0) == pack[f"crf/ms_{power}_label"]).mean() >= 0.99

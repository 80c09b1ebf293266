"""Training of MCTformer: initial weights, samples, losses, resuming; its file, its maps, seeds from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file

import tagmask
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bilinear
from tagmask.errors import InputError, WeightsError
from tagmask.masks import index_png, read_index_png
from tagmask.papers.mctformer import PUBLISHED_MAPS, MctFormer, MctShape, localisation_maps
from tagmask.runtime.folders import find_images
from tagmask.weak import map_files
from tagmask.weak.cam_files import read_cams
from tagmask.weak.config import TrainConfig, fingerprint
from tagmask.weak.config_files import load_config
from tagmask.weak.loop import Report
from tagmask.weak.mask_folder import write_masks
from tagmask.weak.mctformer_file import TrainedMctFormer, load_mctformer, new_mctformer, save_mctformer
from tagmask.weak.mctformer_steps import check_mctformer, train_mctformer
from tagmask.weak.mctformer_task import MctFormerTask
from tagmask.weak.samples import batches
from tagmask.weak.seed_options import SeedOptions
from tagmask.weak.seeds import seed_source
from tagmask.weak.tag_samples import TagSamples, find_tagged
from tagmask.weak.train_log import read_log

WORDS = ("red", "green", "blue")
TINY = [
    "mctformer.width=24", "mctformer.depth=2", "mctformer.heads=2", "crop=32", "batch=4", "workers=0",
    "steps=4", "log_every=1", "checkpoint_every=2", "picture_every=2", "device=cpu", "lr=3e-3",
    "schedule.kind=constant", 'model.words=["red", "green", "blue"]',
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images: a square of each class of their tags on grey, and the tag file beside their folder."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    rng, lines = np.random.default_rng(0), []
    for i, tags in enumerate(([0], [1], [2], [0, 1], [1, 2], [0, 2], [], [1])):
        image = np.full((48, 64, 3), 90, np.uint8)
        image += rng.integers(0, 20, image.shape, dtype=np.uint8)
        for tag in tags:
            image[16:32, 16 * tag : 16 * tag + 16] = np.eye(3, dtype=np.uint8)[tag] * 200
        PILImage.fromarray(image).save(folder / f"{i}.png")
        lines.append(" ".join(map(str, [i, *tags])))
    PILImage.fromarray(image).save(folder / "untagged.png")
    (folder.parent / "tags.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def config(photos: Path) -> Callable[..., TrainConfig]:
    def make(*changes: str) -> TrainConfig:
        folders = [f"images={photos}", f"tags={photos.parent / 'tags.txt'}"]
        return load_config("mctformer/v2", [*TINY, *folders, *changes])

    return make


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("run")
    folders = [f"images={photos}", f"tags={photos.parent / 'tags.txt'}"]
    train_mctformer(load_config("mctformer/v2", [*TINY, *folders]), folder)
    return folder


# -- Training ------------------------------------------------------------------------------------------------


def test_shipped_settings_match_the_paper() -> None:
    v2, plus, coco = (load_config(f"mctformer/{name}") for name in ("v2", "plus", "v2-coco"))
    assert (v2.data.batch, v2.augment.crop, v2.schedule.steps) == (64, 224, 60 * (10582 // 64))
    assert (plus.data.batch, plus.augment.crop, plus.schedule.steps) == (32, 448, 45 * (10582 // 32))
    assert coco.schedule.steps == 60 * (82783 // 64)
    for each in (v2, plus, coco):
        assert each.optimiser.lr == 5e-4 * each.data.batch / 512
        assert each.schedule.warmup == 5 * each.schedule.interval
        assert each.optimiser.lr * each.schedule.warmup_ratio == pytest.approx(1e-6)
        assert (each.optimiser.weight_decay, each.schedule.floor) == (0.05, 1e-5)
    assert load_config("mctformer/v1").mctformer.version == "v1"


def test_samples_are_crops_with_the_tags_of_the_image(
    photos: Path, config: Callable[..., TrainConfig]
) -> None:
    images = find_tagged(photos, photos.parent / "tags.txt", 3)
    assert [each.tags for each in images] == [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (), (1,)]
    samples = TagSamples(images, 3, config())
    (batch,) = batches(samples, 0, [range(8)])
    wanted = {each.name: each.tags for each in images}
    for name, labels in zip(batch.names, batch.labels, strict=True):
        assert tuple(np.flatnonzero(labels).tolist()) == wanted[name]
    assert batch.pixels.shape == (8, 3, 32, 32)
    again, other = samples.sample(0, 3).crop.pixels, samples.sample(1, 3).crop.pixels
    assert np.array_equal(samples.sample(0, 3).crop.pixels, again)
    assert not np.array_equal(again, other)


def test_unusable_inputs_are_refused(
    photos: Path, tmp_path: Path, config: Callable[..., TrainConfig]
) -> None:
    (tmp_path / "tags.txt").write_text("0\nnone 1\n")
    for changes, message in (
        ([f"tags={tmp_path / 'tags.txt'}"], "has no tags of images"),
        (["tags="], "Give --images DIR --tags-file FILE"),
        (["model.words=[]"], "No words are given"),
        (['model.words=["red"]'], "Give class indices from 0 to 0"),
        (["crop=40"], r"augment.crop is 40\. Give a multiple of 16"),
        (["model.kind=small"], "Give one of mctformer"),
        (["mctformer.version=v3"], "Give one of v1, v2, plus"),
        (["mctformer.area=[0.5, 0.1]"], "the smaller first"),
        (["model.weights=none.pth"], "none.pth"),
    ):
        with pytest.raises((InputError, WeightsError), match=message):
            check_mctformer(config(*changes))


def test_only_matrices_and_the_tables_of_plus_decay() -> None:
    for version, wanted in (("v2", set()), ("plus", {"pos_embed_cls", "pos_embed_pat"})):
        net = MctFormer(MctShape(version, 3, width=24, depth=2, heads=2, grid=2))
        groups = MctFormerTask(TrainedMctFormer(net, WORDS), TrainConfig()).groups()
        names = {id(parameter): name for name, parameter in net.named_parameters()}
        decayed, kept = ([names[id(p)] for p in group.parameters] for group in groups)
        assert [group.decays for group in groups] == [True, False]
        assert all((name.endswith("weight") and "norm" not in name) or name in wanted for name in decayed)
        assert wanted <= set(decayed)
        assert "cls_token" in kept
        assert len(decayed) + len(kept) == sum(p.requires_grad for p in net.parameters())


def test_training_learns_the_tags(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    for version in ("v1", "v2", "plus"):
        settings = config(
            "steps=120", "batch=8", f"mctformer.version={version}",
            "mctformer.operations=0", "mctformer.erase=0",
            "mctformer.area=[0.9, 1]", "drop_path=0", "lr=1e-2", "picture_every=0",
        )  # fmt: skip
        train_mctformer(settings, tmp_path / version)
        rows = read_log(tmp_path / version)
        terms = {"class", "patch", "contrast"} - ({"contrast"} if version != "plus" else set())
        terms -= {"patch"} if version == "v1" else set()
        assert terms == rows[0].keys() - {"step", "total", "gradient", "lr"}
        assert rows[0]["total"] == pytest.approx(sum(rows[0][term] for term in terms), rel=1e-5)
        term, bar = ("class", 0.5) if version == "v1" else ("patch", 0.1)  # all classes at half: 0.69
        assert np.mean([row[term] for row in rows[-10:]]) < bar, version


def test_a_stopped_run_resumes_to_the_same_model(
    config: Callable[..., TrainConfig], run: Path, tmp_path: Path
) -> None:
    def stop(report: Report) -> None:
        if report.step == 3:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        train_mctformer(config(), tmp_path, stop)
    assert not (tmp_path / "model.safetensors").exists()
    train_mctformer(config(), tmp_path)
    resumed, whole = (load_file(folder / "model.safetensors") for folder in (tmp_path, run))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert read_log(tmp_path) == read_log(run)
    with PILImage.open(run / "pictures" / "step-000002.jpg") as picture:
        assert picture.size == (3 * 32, 3 * 32)
    with pytest.raises(InputError, match="other settings"):
        train_mctformer(config("lr=1e-4"), tmp_path)


def test_settings_of_other_models_keep_their_fingerprint() -> None:
    config = load_config("weakclip/voc")
    other = replace(config, data=replace(config.data, tags="x"), mctformer=replace(config.mctformer, width=8))
    assert fingerprint(config.fingerprint_fields()) == fingerprint(other.fingerprint_fields())
    ours = load_config("mctformer/v2")
    changed = replace(ours, mctformer=replace(ours.mctformer, erase=0.0))
    assert fingerprint(ours.fingerprint_fields()) != fingerprint(changed.fingerprint_fields())


# -- Initial weights, files ----------------------------------------------------------------------------------


def test_a_deit_file_gives_sizes_and_weights(
    config: Callable[..., TrainConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deit = MctFormer(MctShape("v1", 1, width=128, depth=3, heads=2, grid=14)).state_dict()
    save_file({**deit, "head.weight": torch.zeros(1000, 128)}, tmp_path / "deit.safetensors")
    net = new_mctformer(config(f"weights={tmp_path / 'deit.safetensors'}"), 3)
    assert (net.shape.width, net.shape.depth, net.shape.heads, net.shape.grid) == (128, 3, 2, 2)
    assert torch.equal(net.blocks[2].attn.qkv.weight, deit["blocks.2.attn.qkv.weight"])
    assert net.blocks[2].drop_path == pytest.approx(0.1)
    assert caplog.text == ""
    new_mctformer(config(), 3)
    assert "starts from random weights" in caplog.text


def test_a_network_from_a_clip_computes_its_features(config: Callable[..., TrainConfig]) -> None:
    clip = tagmask.load("miniature", device="cpu", precision="float32")
    net = new_mctformer(config("weights=miniature", "crop=224"), 1).eval()
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tower = extract_features(clip.vision, pixels, bilinear)
        wanted = clip.vision.blocks[-1](tower.tokens)
        output = net(pixels)
    assert torch.allclose(output.patch_tokens, wanted[:, 1:], atol=2e-2)  # the norms' epsilon differs
    assert torch.allclose(output.class_tokens[-1, 0, 0], wanted[0, 0], atol=2e-2)
    assert wanted.abs().max() > 1


def test_a_saved_network_is_the_same(run: Path, tmp_path: Path) -> None:
    trained = load_mctformer(run / "model.safetensors", device="cpu")
    assert trained.words == WORDS
    assert not trained.net.training
    save_mctformer(tmp_path / "again.safetensors", trained)
    again = load_mctformer(tmp_path / "again.safetensors", device="cpu")
    pixels = torch.randn(1, 3, 32, 48)
    assert torch.equal(again.net(pixels).class_scores, trained.net(pixels).class_scores)
    tensors = load_file(run / "model.safetensors")
    header = {"format": "tagmask mctformer 1", "heads": "2", "activation": "gelu", "words": '["a"]'}
    for name, content, metadata, message in (
        ("words", tensors, header, "1 words for 3 classes"),
        ("heads", tensors, {**header, "heads": "many"}, "its header cannot be used"),
        ("other", tensors, {"format": "x"}, "is not an MCTformer of this version"),
        ("less", {"cls_token": tensors["cls_token"]}, header, "not MCTformer's weights"),
    ):
        save_file(content, tmp_path / f"{name}.safetensors", metadata)
        with pytest.raises(WeightsError, match=message):
            load_mctformer(tmp_path / f"{name}.safetensors", device="cpu")


# -- Maps and seeds ------------------------------------------------------------------------------------------


def options_of(photos: Path, run: Path, **more: object) -> SeedOptions:
    return SeedOptions(None, tags_file=photos.parent / "tags.txt", mctformer=run, device="cpu", **more)  # type: ignore[arg-type]


def no_clip() -> tagmask.Clip:
    raise AssertionError("not reached")


def test_seeds_are_thresholded_maps_that_are_kept(
    photos: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [image for image in find_images([photos]) if image.path.stem != "untagged"]
    source = seed_source(images, options_of(photos, run, threshold=0.4), no_clip, tmp_path / "seeds")
    assert source.words == ("background", *WORDS)
    assert all(outcome.error is None for outcome in write_masks(images, source, tmp_path / "seeds"))
    net = load_mctformer(run / "model.safetensors", device="cpu").net
    image = np.asarray(PILImage.open(photos / "4.png"))
    wanted = localisation_maps(net, image, [1, 2], PUBLISHED_MAPS["v2"])
    kept = read_cams(tmp_path / "seeds" / "maps" / "4.npz", 3, (48, 64))
    assert list(kept) == list(wanted) == [1, 2]
    assert all(np.array_equal(kept[c], wanted[c]) for c in wanted)
    stack = np.stack([np.full((48, 64), 0.4, np.float32), wanted[1], wanted[2]])
    mask = read_index_png(tmp_path / "seeds" / "masks" / "4.png")
    assert np.array_equal(mask, np.array([0, 2, 3])[stack.argmax(axis=0)])
    assert not read_index_png(tmp_path / "seeds" / "masks" / "6.png").any()  # it has no tags
    assert not (tmp_path / "seeds" / "maps" / "6.npz").exists()

    monkeypatch.setattr(map_files, "localisation_maps", lambda *_: pytest.fail("computed again"))
    source = seed_source(images, options_of(photos, run, threshold=0.4), no_clip, tmp_path / "seeds")
    assert np.array_equal(source.make(images[4]), mask)
    by_cams = SeedOptions(WORDS, cams=tmp_path / "seeds" / "maps", threshold=0.4)
    assert np.array_equal(seed_source(images, by_cams, no_clip, tmp_path / "o").make(images[4]), mask)


def test_the_threshold_comes_from_ground_truth_or_the_paper(photos: Path, run: Path, tmp_path: Path) -> None:
    images = find_images([photos])
    source = seed_source(images, options_of(photos, run), no_clip, tmp_path / "seeds")
    assert source.settings["threshold"] == 0.39
    (tmp_path / "truth").mkdir()
    cams = read_cams_of(photos, run)
    (tmp_path / "truth" / "0.png").write_bytes(index_png((cams[0] > 0.165).astype(np.uint8)))
    options = options_of(photos, run, truth=tmp_path / "truth")
    assert seed_source(images, options, no_clip, tmp_path / "swept").settings["threshold"] == 0.16
    with pytest.raises(InputError, match="No tags given for the image 'untagged'"):
        source.make(next(image for image in images if image.path.stem == "untagged"))


def read_cams_of(photos: Path, run: Path) -> dict[int, np.ndarray]:
    net = load_mctformer(run / "model.safetensors", device="cpu").net
    return localisation_maps(net, np.asarray(PILImage.open(photos / "0.png")), [0])


def test_maps_of_another_model_are_refused(
    photos: Path, run: Path, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    images = find_images([photos])
    seed_source(images, options_of(photos, run), no_clip, tmp_path / "seeds")
    train_mctformer(config("run.seed=1"), tmp_path / "other")
    with pytest.raises(InputError, match=r"model was .*, is"):
        seed_source(images, options_of(photos, tmp_path / "other"), no_clip, tmp_path / "seeds")
    with pytest.raises(InputError, match="Give the folder of a mctformer run"):
        seed_source(images, options_of(photos, tmp_path / "none"), no_clip, tmp_path / "seeds")
    for more, message in (
        ({"masks": run}, "need no --cams, --masks"),
        ({"tags_file": None}, "--tags-file FILE"),
    ):
        with pytest.raises(InputError, match=message):
            replace(options_of(photos, run), **more)

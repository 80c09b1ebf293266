"""Region proposals by SAM and SAM 2; with networks only in the environment of `make sam-test`."""

import json
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.errors import DownloadError, InputError, WeightsError
from tagmask.proposals import sam
from tagmask.proposals.opening import proposal_source
from tagmask.proposals.sam_files import model_folder
from tagmask.regions.proposals import Proposals
from tests.cli.running import run
from tests.clip.local_hub import Hub, hub
from tests.proposals.sam_models import SIDE, save_sam

__all__ = ["hub"]

KINDS = ("sam", "sam2")
WIDE, HIGH = (50, 80), (90, 41)
LOOSE = sam.SamSettings(points_per_side=3, lowest_iou=0.0, lowest_stability=0.0, box_iou=1.0)


def photo(size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([x * 3, y * 2, (x // 9 + y // 7) % 2 * 200], axis=-1).astype(np.uint8)


# -- The steps around the networks ---------------------------------------------------------------------------


@pytest.mark.parametrize("square", [False, True])
def test_images_are_scaled_to_the_input(square: bool) -> None:
    pixels, frame = sam.prepared(np.full((*WIDE, 3), 255, np.uint8), 32, square=square)
    height = 32 if square else 20
    assert frame == sam._Frame(32, (height, 32))
    white = (1 - torch.tensor(sam._MEAN)) / torch.tensor(sam._STD)
    torch.testing.assert_close(pixels[0, :, :height], white[:, None, None].expand(3, height, 32))
    assert not pixels[0, :, height:].any()
    assert frame.grid(8) == (8 if square else 5, 8)


def test_boxes_equal_those_of_each_mask() -> None:
    masks = torch.rand(40, 7, 9, generator=torch.Generator().manual_seed(0)) > 0.9
    masks[3] = False
    for mask, box in zip(masks.numpy(), sam.boxes_of(masks).tolist(), strict=True):
        y, x = np.nonzero(mask)
        assert box == ([x.min(), y.min(), x.max() + 1, y.max() + 1] if len(y) else [0, 0, 0, 0])


def test_masks_are_enlarged_over_the_part_of_the_input_that_is_the_image() -> None:
    logits = torch.arange(5.0)[:, None].expand(5, 8)  # the image's 20 of 32 rows
    full = sam.full_size(logits, sam._Frame(32, (20, 32)), (40, 64))
    torch.testing.assert_close(full[8:-8, 0], (torch.arange(8, 32) + 0.5) / 8 - 0.5)


def test_without_transformers_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs transformers\. Run: pip install 'tagmask\[sam\]'$"):
        proposal_source(f"sam2:{tmp_path}")


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if transformers were installed: it is imported only when a network is needed."""
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: name)


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"model_type": "clip"}', "its model type is clip. Give a model of type sam, sam2, sam2_video"),
        ("[]", "its model type is None"),
        ("{", "is not valid JSON"),
        (None, r"has no config\.json or no \.safetensors"),
    ],
)
def test_folders_of_other_models_are_refused(config: str | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises((WeightsError, InputError), match=message):
        proposal_source(f"sam2:{tmp_path}", device="cpu")


@pytest.mark.usefixtures("_installed")
def test_names_without_a_folder() -> None:
    with pytest.raises(InputError, match="sam2: names no model"):
        proposal_source("sam2:")
    with pytest.raises(InputError, match="Invalid repository"):
        proposal_source("sam2:no/such/folder")
    with pytest.raises(
        DownloadError, match=r"no folder a/b, and the cache .* no a/b\.\nHF_HUB_OFFLINE forbids"
    ):
        proposal_source("sam:a/b")


def test_a_model_of_the_hub_is_downloaded_once(hub: Hub) -> None:
    large = bytes(200_000)
    hub.files["a/sam"] = {"config.json": b'{"model_type": "sam2"}', "model.safetensors": large, "x.bin": b"1"}
    folder = model_folder("a/sam")
    assert (folder / "config.json").read_bytes() == b'{"model_type": "sam2"}'
    assert (folder / "model.safetensors").read_bytes() == large
    assert hub.requests == ["config.json", "model.safetensors"]
    assert model_folder("a/sam") == folder
    assert len(hub.requests) == 2
    hub.files["a/other"] = {"config.json": b"{}", "model.bin": b"1"}
    with pytest.raises(WeightsError, match=r"a/other has no config\.json or no \.safetensors"):
        model_folder("a/other")


# -- The networks --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_sam(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def naive(folder: Path, kind: str, image: np.ndarray, settings: sam.SamSettings) -> Proposals:
    """Point by point, every mask at the image's size; without doubles, box by box."""
    net = sam.load_network(folder, sam._KINDS[kind], torch.device("cpu"))
    pixels, frame = sam.prepared(image, SIDE, square=kind == "sam2")
    assert settings.lowest_iou is not None
    found: list[tuple[float, tuple[int, ...], np.ndarray]] = []
    n = settings.points_per_side
    for row in range(n):
        for column in range(n):
            point = [(column + 0.5) / n * frame.inner[1], (row + 0.5) / n * frame.inner[0]]
            with torch.no_grad():
                out = net(pixel_values=pixels, input_points=torch.tensor([[[point]]]), multimask_output=True)
            for logits, iou in zip(out.pred_masks[0, 0], out.iou_scores[0, 0].tolist(), strict=True):
                h, w = (-(-edge * len(logits) // SIDE) for edge in frame.inner)
                inside = logits[:h, :w]
                sure, all_ = (inside > settings.stability_offset), (inside > -settings.stability_offset)
                stable = float(sure.sum() / all_.sum()) if all_.any() else 0.0
                y, x = np.nonzero((inside > 0).numpy())
                if iou < settings.lowest_iou or stable < settings.lowest_stability or not len(y):
                    continue
                if kind == "sam":
                    whole = F.interpolate(logits[None, None], (SIDE, SIDE), mode="bilinear")
                    whole = whole[..., : frame.inner[0], : frame.inner[1]]
                else:
                    whole = logits[None, None]
                mask = F.interpolate(whole, image.shape[:2], mode="bilinear")[0, 0] > 0
                found.append((iou, (x.min(), y.min(), x.max() + 1, y.max() + 1), mask.numpy()))
    kept: list[tuple[tuple[int, ...], np.ndarray]] = []
    for _, box, mask in sorted(found, key=lambda each: -each[0]):
        if all(overlap(box, other) <= settings.box_iou for other, _ in kept):
            kept.append((box, mask))
    return Proposals.of_masks([mask for _, mask in kept], image.shape[:2])


def overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    cells = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (one, other)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


@pytest.mark.sam
def test_torchvision_is_not_installed() -> None:
    assert find_spec("torchvision") is None
    assert find_spec("transformers") is not None


@pytest.mark.sam
@pytest.mark.parametrize("size", [WIDE, HIGH])
@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_those_of_the_naive_version(
    kind: str, size: tuple[int, int], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam, "_POINTS", 4)
    strict = sam.SamSettings(points_per_side=3, lowest_iou=0.47, lowest_stability=0.6, box_iou=0.99)
    counts = []
    for settings in (LOOSE, strict):
        found = sam.SamProposals(str(folders[kind]), settings, "cpu")(photo(size))
        expected = naive(folders[kind], kind, photo(size), settings)
        assert len(found) == len(expected) > 1
        assert abs(found.areas - expected.areas).max() <= 2
        assert (found.index_map() != expected.index_map()).mean() < 0.01
        counts.append(len(found))
    assert counts[0] > counts[1]


@pytest.mark.sam
@pytest.mark.parametrize("size", [WIDE, HIGH])
def test_sam_is_prepared_as_transformers_does(size: tuple[int, int]) -> None:
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    processor = SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    theirs = processor(photo(size), return_tensors="pt")
    pixels, frame = sam.prepared(photo(size), SIDE, square=False)
    assert frame.inner == tuple(theirs["reshaped_input_sizes"][0].tolist())
    torch.testing.assert_close(pixels, theirs["pixel_values"], rtol=1e-5, atol=1e-5)


@pytest.mark.sam
def test_the_thresholds_are_those_of_the_model(folders: dict[str, Path]) -> None:
    for kind, lowest in (("sam", 0.88), ("sam2", 0.8)):
        identity = sam.SamProposals(str(folders[kind]), device="cpu").identity
        assert (identity["model"], identity["lowest_iou"]) == (kind, lowest)
        again = sam.SamProposals(str(folders[kind]), sam.SamSettings(box_iou=0.5), "cpu").identity
        assert identity.items() - again.items() == {("box_iou", 0.7)}
    assert sam.SamProposals(str(folders["sam"]), device="cpu").missing([PurePosixPath("a.jpg")]) == []


@pytest.mark.sam
def test_published_sam2_folders_of_type_sam2_video(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in folders["sam2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video"}))
    found = sam.SamProposals(str(tmp_path), LOOSE, "cpu")(photo(WIDE))
    expected = sam.SamProposals(str(folders["sam2"]), LOOSE, "cpu")(photo(WIDE))
    np.testing.assert_array_equal(found.index_map(), expected.index_map())


@pytest.mark.sam
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_weights_are_refused(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((folders[kind] / "config.json").read_bytes())
    tensors = load_file(folders[kind] / "model.safetensors")
    name = next(name for name in tensors if name.startswith("mask_decoder"))
    cases: list[tuple[dict[str, Any], str]] = [
        ({key: value for key, value in tensors.items() if key != name}, "1 are missing or of another shape"),
        ({**tensors, name: torch.full_like(tensors[name], torch.nan)}, "holds NaN or infinite values"),
    ]
    for changed, message in cases:
        save_file(changed, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(WeightsError, match=message):
            sam.SamProposals(str(tmp_path), LOOSE, "cpu")(photo(WIDE))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match="cannot be read as a Sam"):
        sam.SamProposals(str(tmp_path), LOOSE, "cpu")(photo(WIDE))


@pytest.mark.sam
def test_the_command_masks_with_a_sam(
    folders: dict[str, Path], tmp_path: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image as PILImage

    monkeypatch.setattr(sam, "SamSettings", lambda: LOOSE)
    (tmp_path / "photos").mkdir()
    PILImage.fromarray(photo(WIDE)).save(tmp_path / "photos" / "a.png")
    common = [
        "mask",
        tmp_path / "photos",
        "-w",
        "cat",
        "-w",
        "dog",
        "--weights",
        sclip_weights,
        "--no-overlay",
    ]
    done = run(*common, "-o", tmp_path / "out", "--proposals", f"sam2:{folders['sam2']}", "--device", "cpu")
    assert done.exit_code == 0, done.output
    fields = json.loads((tmp_path / "out" / "run.json").read_text())["fields"]
    assert fields["proposals"]["model"] == "sam2"
    labels = np.array(PILImage.open(tmp_path / "out" / "masks" / "a.png"))
    regions = sam.SamProposals(str(folders["sam2"]), LOOSE, "cpu")(photo(WIDE)).index_map()
    for region in range(regions.max() + 1):
        assert len(np.unique(labels[regions == region])) <= 1

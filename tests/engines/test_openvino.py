"""OpenVINO's blocks compared with torch's, in the environment of `make openvino-test`."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tagmask
from tagmask.clip.load import Clip, load
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.engines import openvino, stored_model
from tagmask.engines.openvino import OpenVinoBlocks
from tagmask.errors import InputError
from tagmask.files import cache_dir
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES
from tagmask.settings.engine import EngineSettings

pytestmark = [pytest.mark.openvino, pytest.mark.filterwarnings("ignore")]

METHODS = ("clip", "sclip", "sc-clip", "gem", "resclip", "cls-seg")
"""None reads states, some, and attention maps of some blocks; one has a second pass."""
INT8 = EngineSettings("openvino", "int8", [unseen_scene(100 + i).image for i in range(16)])


@pytest.fixture(scope="module")
def miniature() -> Clip:
    return load("miniature", device="cpu")


@pytest.fixture(scope="module")
def bfloat16() -> Clip:
    return load("miniature", device="cpu", precision="bfloat16")


def tokens(clip: Clip, images: int, count: int) -> Tensor:
    """Tokens of a scene as they enter the first block: normalised, so other tokens than random ones."""
    pixels = torch.from_numpy(unseen_scene(3).image).permute(2, 0, 1)[None].float().div(255) - 0.5
    side = clip.vision.patch
    rows = -(-count // 8)
    resized = torch.nn.functional.interpolate(pixels, (rows * side, 8 * side)).expand(images, -1, -1, -1)
    positions = bilinear_half(clip.vision.positional_embedding, (rows, 8))
    return clip.vision.embed(resized * torch.linspace(0.5, 1, images)[:, None, None, None], positions)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("images", "count"), [(1, 8), (3, 96), (2, 400)])
@pytest.mark.parametrize("masked", [False, True])
@torch.inference_mode()
def test_float32_blocks_are_torch_s(miniature: Clip, images: int, count: int, masked: bool) -> None:
    """Sums in another order, so equal to rounding: 1e-5 of the residual stream after 11 blocks."""
    blocks = OpenVinoBlocks.of(miniature, EngineSettings("openvino"))
    x = tokens(miniature, images, count)
    bias = None
    if masked:
        bias = torch.zeros(images, 1, x.shape[1], x.shape[1])
        bias[:, 0, 0, 1::2] = -100.0
    before, expected = x.clone(), x
    found = blocks(x, {0, 4, 10}, bias)
    assert torch.equal(x, before)
    assert set(found) == {0, 4, 10}
    for layer, block in enumerate(miniature.vision.blocks[:-1]):
        expected = block(expected, bias)
        if layer in found:
            assert found[layer].dtype == torch.float32
            assert relative_error(found[layer], expected) < 1e-5
    if masked:
        assert relative_error(blocks(x, {10})[10], expected) > 1e-4  # the bias has an effect


@pytest.mark.parametrize("method", METHODS)
def test_masks_in_float32_are_torch_s(miniature: Clip, method: str) -> None:
    settings = {"background": BACKGROUND_NAMES, "method": method}
    plain = tagmask.Segmenter(miniature, CLASS_NAMES, **settings)
    engine = tagmask.Segmenter(miniature, CLASS_NAMES, **settings, engine="openvino")
    assert engine.clip.engine is not None
    for seed in range(3):
        image = unseen_scene(seed).image
        assert (plain(image).labels == engine(image).labels).mean() > 0.9999
    assert engine(image).precision == "float32"


def test_tags_in_float32_are_torch_s(miniature: Clip) -> None:
    plain, engine = (
        tagmask.Tagger(miniature, CLASS_NAMES, background=BACKGROUND_NAMES, engine=name)
        for name in (None, "openvino")
    )
    image = unseen_scene(1).image
    np.testing.assert_allclose(engine(image).scores, plain(image).scores, atol=1e-5)


def features(clip: Clip) -> Tensor:
    with torch.inference_mode():
        pixels = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
        return extract_features(clip.vision, pixels, bilinear_half).tokens


def test_lower_precisions_are_near_float32_and_differ_from_it(miniature: Clip, bfloat16: Clip) -> None:
    """The miniature's errors: 0.5 to 1 % in bfloat16 (torch's 0.5 %), about 3 % in int8."""
    expected = features(miniature)
    blocks = OpenVinoBlocks.of(bfloat16, EngineSettings("openvino"))
    assert 1e-3 < relative_error(features(bfloat16.with_engine(blocks)), expected) < 0.03
    assert blocks.precision == "bfloat16"
    blocks = OpenVinoBlocks.of(miniature, INT8)
    assert 5e-3 < relative_error(features(miniature.with_engine(blocks)), expected) < 0.1
    assert blocks.precision == "int8"
    assert set(blocks.identity) == {"name", "precision", "calibration"}


def test_int8_keeps_nearly_all_labels(miniature: Clip) -> None:
    settings = {"background": BACKGROUND_NAMES}
    plain = tagmask.Segmenter(miniature, CLASS_NAMES, **settings)
    engine = tagmask.Segmenter(miniature, CLASS_NAMES, **settings, engine=INT8)
    images = [unseen_scene(seed).image for seed in range(4)]
    same = [(plain(image).labels == engine(image).labels).mean() for image in images]
    assert 0.97 < np.mean(same) < 1
    assert engine(images[0]).precision == "int8"


def test_threads_share_an_engine(miniature: Clip) -> None:
    blocks = OpenVinoBlocks.of(miniature, EngineSettings("openvino"))
    inputs = [tokens(miniature, 1, count) * scale for count in (16, 64) for scale in (0.5, 1.0, 1.5)]
    expected = [blocks(x, {5, 10}) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: blocks(x, {5, 10}), inputs * 4))
    for got, wanted in zip(found, expected * 4, strict=True):
        assert all(torch.equal(got[layer], wanted[layer]) for layer in wanted)


# -- Conversion and cache ------------------------------------------------------------------------------------


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """An empty cache, and how many blocks each conversion had."""
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path))
    counted: list[int] = []
    convert = openvino._convert

    def counting(blocks: list[object]) -> object:
        counted.append(len(blocks))
        return convert(blocks)

    monkeypatch.setattr(openvino, "_convert", counting)
    return counted


@pytest.mark.parametrize("settings", [EngineSettings("openvino"), INT8], ids=["float32", "int8"])
def test_blocks_are_converted_once(
    sclip_model: Clip, conversions: list[int], settings: EngineSettings
) -> None:
    first = features(sclip_model.with_engine(OpenVinoBlocks.of(sclip_model, settings)))
    second = features(sclip_model.with_engine(OpenVinoBlocks.of(sclip_model, settings)))
    assert conversions == [3]
    assert torch.equal(first, second)
    (model,) = (cache_dir() / "engines").iterdir()
    with (model / "model.bin").open("r+b") as file:
        file.write(b"damaged")
    again = features(sclip_model.with_engine(OpenVinoBlocks.of(sclip_model, settings)))
    assert conversions == [3, 3]
    assert relative_error(again, first) < (1e-6 if settings is not INT8 else 0.02)


def test_other_weights_precisions_and_photos_are_converted_anew(
    miniature: Clip, bfloat16: Clip, sclip_model: Clip, conversions: list[int]
) -> None:
    others = EngineSettings("openvino", "int8", [unseen_scene(50).image])
    for clip in (miniature, bfloat16, sclip_model):
        OpenVinoBlocks.of(clip, EngineSettings("openvino"))
    one, two = (OpenVinoBlocks.of(sclip_model, settings) for settings in (INT8, others))
    assert len(conversions) == 5
    assert one.identity["calibration"] != two.identity["calibration"]


def test_without_a_cache_folder_everything_works(
    sclip_model: Clip, conversions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(key: str) -> Path:
        raise InputError("There is no home folder")

    monkeypatch.setattr(stored_model, "_folder", refuse)
    blocks = OpenVinoBlocks.of(sclip_model, EngineSettings("openvino"))
    assert relative_error(features(sclip_model.with_engine(blocks)), features(sclip_model)) < 1e-5
    assert conversions


def test_quantising_prints_nothing_on_stdout(
    sclip_model: Clip, conversions: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    OpenVinoBlocks.of(sclip_model, INT8)
    assert conversions
    assert capfd.readouterr().out == ""


def test_no_usage_data_is_sent() -> None:
    """Both packages report to their makers through a third, unless it cannot be imported."""
    code = (
        "import sys; from tagmask.engines.openvino import _nncf; _nncf();"
        "from openvino.tools.ovc import telemetry_utils; print(telemetry_utils.tm.__name__);"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "[]"]


# -- Refusals ------------------------------------------------------------------------------------------------


def test_what_openvino_cannot_compute_is_refused(sclip_weights: Path, sclip_model: Clip) -> None:
    half = load(sclip_weights, device="cpu", precision="float16")
    with pytest.raises(InputError, match=r"in float16\. Load the weights in float32 or bfloat16"):
        tagmask.Segmenter(half, ["cat"], background=[], engine="openvino")
    with pytest.raises(InputError, match="purify reads those of every block"):
        tagmask.Segmenter(sclip_model, ["cat"], background=[], purify=True, engine="openvino")

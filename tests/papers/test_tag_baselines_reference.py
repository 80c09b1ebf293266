"""Tagging baselines compared with recorded values of the authors' programs: every array of the file."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tagmask.bench.tag_metrics import average_precision
from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.dense.prompts import text_features
from tagmask.papers import clip_tags, dpt, piaa, sparc
from tagmask.papers.preprocessing import InputSettings, batches, encode_image, to_pixels
from tagmask.settings.words import read_list
from tagmask.variants.clip_surgery import feature_surgery, surgery_tokens

SHARED = Path(__file__).parents[3] / "shared" / "golden"

pytestmark = pytest.mark.parity


class Pack(dict[str, np.ndarray]):
    """The recorded arrays; remembers which ones were read."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        self.read.add(name)
        return super().__getitem__(name)


@pytest.fixture(scope="module")
def pack() -> Pack:
    return Pack(np.load(SHARED / "tags.npz"))


@pytest.fixture(scope="module")
def inputs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tags_inputs", SHARED / "tags_inputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def close(ours: object, reference: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), reference, rtol=0, atol=atol)


# -- CLIP ------------------------------------------------------------------------------------------------

CENTRE = InputSettings(input="centre")


def test_preprocessing_equals_the_reference(
    pack: Pack, tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    pixels = torch.stack([to_pixels(tagclip_model, image, CENTRE) for image in shapes])
    close(pixels[..., ::8, ::8], pack["clip/image224"], 1e-6)
    np.testing.assert_allclose(pixels.double().sum(dim=(1, 2, 3)), pack["clip/image_sum"], rtol=0, atol=0.05)


@pytest.mark.parametrize("prompt", ["plain", "ens85"])
@torch.inference_mode()
def test_clip_with_and_without_softmax(
    pack: Pack, tagclip_model: Clip, shapes: list[np.ndarray], prompt: str
) -> None:
    templates = ["a photo of a {}."] if prompt == "plain" else read_list("prompts_tag85")
    names = [*read_list("voc_tag"), *read_list("background_voc")]
    texts = text_features(tagclip_model, names, templates)
    close(texts, pack[f"clip/{prompt}/text"], 2e-6)
    [(positions, pixels)] = batches(tagclip_model, shapes, CENTRE)
    assert positions == [0, 1, 2]
    features = class_token(encode_image(tagclip_model, pixels))
    close(features, pack["clip/image_features"], 2e-6)
    logits = tagclip_model.logit_scale * clip_tags.cosines(features, texts)
    close(logits, pack[f"clip/{prompt}/logits"], 2e-5)
    if prompt == "plain":
        close(logits[:, :20], pack["clip/forward_logits_per_image"], 2e-5)
    # Softmax over all 45 texts, restricted to the 20 words afterwards; and over these 20 only.
    settings = clip_tags.ClipTagSettings(input="centre")
    over_all = clip_tags.score(tagclip_model, pixels, texts, settings)[:, :20]
    close(over_all, pack[f"clip/{prompt}/softmax_all"], 2e-5)
    close(
        clip_tags.score(tagclip_model, pixels, texts[:20], settings), pack[f"clip/{prompt}/softmax_fg"], 2e-5
    )


# -- DPT -------------------------------------------------------------------------------------------------


def pooled(x: Tensor, weights: dict[str, Tensor], head_width: int = 64) -> tuple[Tensor, Tensor]:
    """Global and local features of the authors' tower: a CLIP ResNet's last feature map, attention-pooled.

    Returns:
        g, the attention pooling with the mean of all positions as query; and l, the value path of each
        position, without position embeddings or other positions.
    """

    def linear(name: str, of: Tensor) -> Tensor:
        return F.linear(of, weights[f"{name}.weight"], weights[f"{name}.bias"])

    positions = x.flatten(2).transpose(1, 2)
    tokens = (
        torch.cat([positions.mean(dim=1, keepdim=True), positions], dim=1) + weights["positional_embedding"]
    )
    parts = [linear("q_proj", tokens[:, :1]), linear("k_proj", tokens), linear("v_proj", tokens)]
    q, k, v = (part.unflatten(-1, (-1, head_width)).transpose(1, 2) for part in parts)
    attention = torch.softmax(q @ k.transpose(-2, -1) * head_width**-0.5, dim=-1)
    pooled_values = (attention @ v).transpose(1, 2).flatten(2)[:, 0]
    return linear("c_proj", pooled_values), linear("c_proj", linear("v_proj", positions))


def test_dpt(pack: Pack) -> None:
    prefix = "dpt/w/visual.attnpool."
    weights = {
        name.removeprefix(prefix): torch.from_numpy(pack[name]) for name in pack if name.startswith(prefix)
    }
    g, l = pooled(torch.from_numpy(pack["dpt/layer4"]), weights)  # noqa: E741
    close(g, pack["dpt/global_feature"], 5e-6)
    close(l.transpose(0, 1), pack["dpt/local_features"], 5e-6)
    texts = torch.from_numpy(pack["dpt/text"])
    scale = float(np.exp(3.3))
    z, local = dpt.global_logits(g, texts, scale), dpt.local_logits(l, texts, scale)
    close(z, pack["dpt/logits_global"], 5e-5)
    close(local, pack["dpt/logits_local"], 5e-5)
    close(dpt.merge(z, local, dpt.DptSettings()), pack["dpt/merged"], 5e-5)


# -- CLIP Surgery ----------------------------------------------------------------------------------------


def surgery_images(inputs: ModuleType) -> torch.Tensor:
    """Noise, smoothed by a circular mean of three, three times along each axis, scaled to deviation 1."""
    x = inputs.u("csimg", (2, 3, 224, 224))
    for _ in range(3):
        for axis in (2, 3):
            x = (np.roll(x, 1, axis) + x + np.roll(x, -1, axis)) / 3
    return torch.from_numpy((x / x.std(ddof=1)).astype(np.float32))


@torch.inference_mode()
def test_clip_surgery(pack: Pack, inputs: ModuleType, tagclip_model: Clip) -> None:
    pixels = surgery_images(inputs)
    close(pixels[..., ::8, ::8], pack["surgery/image_std1"], 1e-5)
    tokens = F.normalize(surgery_tokens(tagclip_model.vision, pixels), dim=-1)
    close(tokens, pack["surgery/features"], 1e-4)
    texts = torch.from_numpy(pack["clip/ens85/text"][:20])
    close(feature_surgery(tokens, texts), pack["surgery/similarity"], 1e-4)


# -- PIAA ------------------------------------------------------------------------------------------------

SETTINGS = {
    "voc": piaa.PiaaSettings(
        refine_scale=100.0, class_scale=80.0, patch_scale=200.0, bank_size=32, compat=True
    ),
    "mid": piaa.PiaaSettings(
        refine_scale=0.1, class_scale=80.0, patch_scale=200.0, bank_size=32, compat=True
    ),
    "drop": piaa.PiaaSettings(
        refine_scale=2.0, class_scale=80.0, patch_scale=200.0, bank_size=1000, compat=True
    ),
}


@pytest.fixture(scope="module")
def piaa_inputs(inputs: ModuleType, pack: Pack) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = inputs.piaa()
    for name, array in arrays.items():
        recorded = pack[f"piaa/in/{name}"]
        np.testing.assert_array_equal(array[: len(recorded)], recorded)
    np.testing.assert_array_equal(arrays["test_labels"], pack["piaa/test_labels"])
    return arrays


def unit(array: np.ndarray) -> torch.Tensor:
    return F.normalize(torch.from_numpy(array), dim=-1)


@pytest.mark.parametrize("name", SETTINGS)
def test_piaa(pack: Pack, piaa_inputs: dict[str, np.ndarray], name: str) -> None:
    settings, texts = SETTINGS[name], torch.from_numpy(piaa_inputs["text"])
    bank = piaa.empty_bank(texts)
    for image in unit(piaa_inputs["train_patches"]):
        bank = piaa.grow(bank, image, texts, settings)
    stage1, stage2 = f"piaa/{name}/stage1", f"piaa/{name}/stage2"
    close(bank.features, pack[f"{stage1}/features"], 1e-6)
    first = piaa.fit(bank.features, bank.probabilities, bank.owners, texts)
    close(first.adapter.weight, pack[f"{stage1}/W"], 5e-3)
    close(first.adapter.bias, pack[f"{stage1}/b"], 5e-3)
    kept, _, owners = piaa.refine_bank(bank, first.adapter, settings)
    order = torch.argsort(owners[kept], stable=True)
    close(bank.features[kept][order], pack[f"{stage2}/features"], 1e-6)
    fitted = piaa.adapt(bank, texts, settings)
    np.testing.assert_array_equal(fitted.seen, pack[f"{stage1}/count"])
    np.testing.assert_array_equal(fitted.kept, pack[f"{stage2}/count"])
    close(fitted.adapter.weight, pack[f"{stage2}/W"], 5e-3)
    close(fitted.adapter.bias, pack[f"{stage2}/b"], 5e-3)
    scores = piaa.score(
        unit(piaa_inputs["test_patches"]), unit(piaa_inputs["test_cls"]), texts, fitted.adapter, settings
    ).numpy()
    close(scores, pack[f"piaa/{name}/scores"], 2e-5)
    precision = 100 * average_precision(scores.astype(np.float64), piaa_inputs["test_labels"])
    close(precision, pack[f"piaa/{name}/ap"], 1e-4)
    close(precision.mean(), pack[f"piaa/{name}/map"], 1e-4)


def test_piaa_patch_probabilities(pack: Pack) -> None:
    logits = torch.from_numpy(pack["piaa/helper/in"])
    close(piaa.patch_words(logits, piaa.PiaaSettings()), pack["piaa/helper/out"], 1e-6)


# -- SPARC -----------------------------------------------------------------------------------------------


def test_sparc(pack: Pack, inputs: ModuleType) -> None:
    given = inputs.sparc()
    for name, array in given.items():
        np.testing.assert_array_equal(array, pack[f"sparc/in/{name}"])
    mentions = sparc.match(inputs.SPARC_PROMPTS, inputs.SPARC_CLASSES)
    np.testing.assert_array_equal(mentions, pack["sparc/match"].astype(bool))
    cosines = sparc.Cosines(given["ens"], given["simple"], given["comp"])
    reference = sparc.learn(cosines, mentions)
    singles, compounds = sparc.normalised(cosines, reference)
    close(singles, pack["sparc/ens_norm"], 1e-12)
    close(compounds, pack["sparc/comp_norm"], 1e-12)
    close(sparc.fuse(singles, compounds, mentions, reference), pack["sparc/pca_fused"], 1e-12)
    scores = sparc.apply(cosines, mentions, reference, sparc.SparcSettings())
    close(scores, pack["sparc/final"], 1e-12)
    close(average_precision(scores, given["labels"]), pack["sparc/ap"], 1e-8)


def test_every_array_is_compared(pack: Pack) -> None:
    """Metrics are tested with `bench`; the ResNet's image and the text tower's shapes are not used."""
    if not pack.read:
        pytest.skip("run together with the other tests of this file, which read the arrays")
    unused = {"dpt/image", "dpt/shapes"}
    left = {name for name in pack if not name.startswith("metrics/")} - pack.read - unused
    assert left == set()

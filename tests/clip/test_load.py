"""From a weights file to a model that runs."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tagmask import TagmaskError
from tagmask.clip import hardware
from tagmask.clip.hardware import choose_device, choose_precision
from tagmask.clip.load import OPENAI_MEAN, Clip, load
from tagmask.clip.tokenizer import tokenize
from tagmask.dense.features import class_token_features
from tagmask.errors import InputError, WeightsError
from tests.oracles import clip_tree

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors(sclip_weights: Path) -> Tensors:
    found: Tensors = torch.load(sclip_weights, weights_only=True)
    return {name: tensor for name, tensor in found.items() if tensor.ndim or name == "logit_scale"}


def features(clip: Clip) -> torch.Tensor:
    with torch.inference_mode():
        return clip.text(torch.as_tensor(tokenize(["a photo of a cat.", "dog"])))


def test_what_belongs_to_the_weights(sclip_model: Clip) -> None:
    shape = sclip_model.geometry
    assert (shape.vision_layers, shape.vision_width, shape.vision_heads, shape.patch, shape.grid) == (
        4,
        128,
        2,
        16,
        14,
    )
    assert sclip_model.activation == "quickgelu"
    assert sclip_model.mean == OPENAI_MEAN
    assert sclip_model.logit_scale == pytest.approx(100, rel=1e-2)
    assert "4 layers of width 128" in sclip_model.describe()


def test_every_container_gives_the_same_model(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "nested.pth")
    torch.save(tensors, tmp_path / "plain.bin")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "plain.safetensors")
    for file in tmp_path.iterdir():
        assert torch.equal(features(load(file, device="cpu")), features(sclip_model)), file


def test_openais_archive_gives_the_same_model(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    # The made-up values are float16 already, so an archive in half precision, as OpenAI's are, loses nothing.
    tree = clip_tree.ClipTree(
        width=128,
        layers=4,
        patch=16,
        side=224,
        embed=64,
        text_width=128,
        text_layers=3,
        vocab=49408,
        context=77,
    )
    tree.load_state_dict(tensors, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but wrote the published archives
        torch.jit.script(tree.half()).save(str(tmp_path / "ViT.pt"))
    clip = load(tmp_path / "ViT.pt", device="cpu")
    assert (clip.activation, clip.activation_known) == ("quickgelu", True)
    assert clip.geometry == sclip_model.geometry
    assert torch.equal(features(clip), features(sclip_model))
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(
            class_token_features(clip.vision, pixels), class_token_features(sclip_model.vision, pixels)
        )


def test_an_archive_that_calls_gelu_itself_is_not_openais(tensors: Tensors, tmp_path: Path) -> None:
    tree = clip_tree.ClipTree(**{**clip_tree.SMALL, "vocab": 49408, "context": 77})
    for module in list(tree.modules()):
        if isinstance(module, clip_tree.Block):
            module.mlp.gelu = torch.nn.GELU()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(tree).save(str(tmp_path / "ViT.pt"))
    clip = load(tmp_path / "ViT.pt", device="cpu")
    assert (clip.activation, clip.activation_known, clip.preprocessing_known) == ("gelu", True, False)


def test_half_precision_files_are_widened(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    # The made-up values are float16 already, so a float16 file must give the very same numbers.
    save_file(
        {name: tensor.half().contiguous() for name, tensor in tensors.items()}, tmp_path / "half.safetensors"
    )
    assert torch.equal(features(load(tmp_path / "half.safetensors", device="cpu")), features(sclip_model))


def test_the_model_outlives_its_file(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    clip = load(path, device="cpu")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(features(clip), features(sclip_model))


def test_nothing_can_be_trained(sclip_model: Clip) -> None:
    parameters = [*sclip_model.vision.parameters(), *sclip_model.text.parameters()]
    assert parameters
    assert not any(parameter.requires_grad for parameter in parameters)


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_precision_is_that_of_the_products_only(
    precision: str, dtype: torch.dtype, sclip_weights: Path
) -> None:
    clip = load(sclip_weights, device="cpu", precision=precision)
    block = clip.vision.blocks[0]
    for weight in (block.attn.in_proj_weight, block.mlp.c_fc.weight, block.mlp.c_proj.bias, clip.vision.proj):
        assert weight.dtype == dtype
    for weight in (block.ln_1.weight, clip.vision.positional_embedding, clip.text.token_embedding.weight):
        assert weight.dtype == torch.float32
    assert features(clip).dtype == torch.float32


def test_activation_is_given_or_read_or_openais(
    tensors: Tensors, sclip_weights: Path, tmp_path: Path
) -> None:
    exact = load(sclip_weights, device="cpu", activation="gelu")
    assert (exact.activation, exact.activation_known) == ("gelu", True)
    guessed = load(sclip_weights, device="cpu")
    assert (guessed.activation, guessed.activation_known) == ("quickgelu", False)
    assert "quickgelu (assumed)" in guessed.describe()
    path = tmp_path / "gelu.safetensors"
    metadata = {"activation": "gelu", "mean": "0.5, 0.5, 0.5", "std": "[0.25, 0.25, 0.25]"}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    read = load(path, device="cpu")
    assert (read.activation, read.mean, read.std) == ("gelu", (0.5,) * 3, (0.25,) * 3)
    assert torch.equal(features(read), features(exact))
    assert not torch.equal(features(read), features(load(path, device="cpu", activation="quickgelu")))
    assert read.text_fingerprint == exact.text_fingerprint


def test_fingerprints_follow_all_that_text_features_depend_on(tensors: Tensors, tmp_path: Path) -> None:
    changed = {**tensors, "ln_final.bias": tensors["ln_final.bias"] + 1}
    torch.save(tensors, tmp_path / "a.pt")
    torch.save(changed, tmp_path / "b.pt")
    prints = {
        load(tmp_path / "a.pt", device="cpu").text_fingerprint,
        load(tmp_path / "b.pt", device="cpu").text_fingerprint,
        load(tmp_path / "a.pt", device="cpu", activation="gelu").text_fingerprint,
        load(tmp_path / "a.pt", device="cpu", precision="bfloat16").text_fingerprint,
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"activation": "relu"}, "activation 'relu'"),
        ({"mean": "0.5"}, "mean = '0.5'; three numbers were wanted"),
    ],
)
def test_metadata_that_cannot_be_right(
    metadata: dict[str, str], message: str, tensors: Tensors, tmp_path: Path
) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    with pytest.raises(WeightsError, match=message):
        load(path, device="cpu")


def test_openais_names_are_looked_up_in_its_cache(
    sclip_weights: Path, sclip_model: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(
        WeightsError, match=r"ViT-B-16:openai is not on this machine: looked for .*ViT-B-16\.pt"
    ):
        load("ViT-B-16:openai")
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    shutil.copy(sclip_weights, tmp_path / ".cache" / "clip" / "ViT-B-16.pt")
    assert torch.equal(features(load("ViT-B-16:openai", device="cpu")), features(sclip_model))


def test_text_after_the_end_token_does_not_matter(sclip_model: Clip) -> None:
    ids = torch.as_tensor(tokenize(["a photo of a cat."]))
    padded = ids.clone()
    padded[0, int(ids.argmax()) + 1 :] = 1234
    with torch.inference_mode():
        assert torch.equal(sclip_model.text(padded), sclip_model.text(ids))
        both = sclip_model.text(torch.cat([ids, torch.as_tensor(tokenize(["a " * 60]))]))
    torch.testing.assert_close(both[:1], features(sclip_model)[:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        ({"precision": "int8"}, "precision 'int8' is unknown"),
        ({"activation": "relu"}, "Unknown activation 'relu'. Give one of quickgelu, gelu"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, str], message: str, sclip_weights: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(sclip_weights, **options)


def test_auto_takes_bfloat16_only_where_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(hardware, "_cpu_has_bfloat16", lambda native=native: native)
        assert choose_precision("auto", torch.device("cpu")) == expected
    assert choose_precision("float16", torch.device("cpu")) == "float16"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


def test_another_vocabulary_is_refused(tensors: Tensors, tmp_path: Path) -> None:
    torch.save({**tensors, "token_embedding.weight": torch.zeros(1000, 128)}, tmp_path / "small.pt")
    with pytest.raises(WeightsError, match="vocabulary of 1000; CLIP's own 77 and 49408 are wanted"):
        load(tmp_path / "small.pt")


def test_every_weights_error_is_a_tagmask_error(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    for path in (tmp_path / "nowhere.pt", tmp_path / "text.pt", tmp_path):
        with pytest.raises(TagmaskError):
            load(path)

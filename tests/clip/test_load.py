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
from tests.known_weights import publish
from tests.oracles import clip_tree

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors(sclip_weights: Path) -> Tensors:
    state: Tensors = torch.load(sclip_weights, weights_only=True)
    return {name: tensor for name, tensor in state.items() if tensor.ndim or name == "logit_scale"}


def features(clip: Clip) -> torch.Tensor:
    with torch.inference_mode():
        return clip.text(torch.as_tensor(tokenize(["a photo of a cat.", "dog"])))


def test_settings_of_the_weights(sclip_model: Clip) -> None:
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


def test_every_file_format_gives_the_same_model(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "nested.pth")
    torch.save(tensors, tmp_path / "plain.bin")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "plain.safetensors")
    for file in tmp_path.iterdir():
        assert torch.equal(features(load(file, device="cpu")), features(sclip_model)), file


def test_openais_archive_gives_the_same_model(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    # The test values are exact in float16, so an archive in half precision, as OpenAI's are, loses nothing.
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
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but OpenAI's archives were written with it
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


def test_an_archive_that_calls_gelu_is_not_openais(tensors: Tensors, tmp_path: Path) -> None:
    tree = clip_tree.ClipTree(**{**clip_tree.SMALL, "vocab": 49408, "context": 77})
    for module in list(tree.modules()):
        if isinstance(module, clip_tree.Block):
            module.mlp.gelu = torch.nn.GELU()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(tree).save(str(tmp_path / "ViT.pt"))
    clip = load(tmp_path / "ViT.pt", device="cpu")
    assert (clip.activation, clip.activation_known, clip.preprocessing_known) == ("gelu", True, False)


def test_half_precision_files_are_converted_to_float32(
    tensors: Tensors, sclip_model: Clip, tmp_path: Path
) -> None:
    # The test values are exact in float16, so a float16 file must give the same numbers.
    save_file(
        {name: tensor.half().contiguous() for name, tensor in tensors.items()}, tmp_path / "half.safetensors"
    )
    assert torch.equal(features(load(tmp_path / "half.safetensors", device="cpu")), features(sclip_model))


def test_a_logit_scale_of_shape_1(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    torch.save(tensors | {"logit_scale": tensors["logit_scale"].reshape(1)}, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt", device="cpu").logit_scale == sclip_model.logit_scale


def test_the_model_does_not_depend_on_its_file(tensors: Tensors, sclip_model: Clip, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    clip = load(path, device="cpu")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(features(clip), features(sclip_model))


def test_all_parameters_are_frozen(sclip_model: Clip) -> None:
    parameters = [*sclip_model.vision.parameters(), *sclip_model.text.parameters()]
    assert parameters
    assert not any(parameter.requires_grad for parameter in parameters)


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_precision_applies_to_matrix_products_only(
    precision: str, dtype: torch.dtype, sclip_weights: Path
) -> None:
    clip = load(sclip_weights, device="cpu", precision=precision)
    block, tensors = clip.vision.blocks[0], clip.vision.state_dict()
    for name in ("attn.in_proj_weight", "mlp.c_fc.weight", "mlp.c_proj.bias"):
        assert tensors[f"transformer.resblocks.0.{name}"].dtype == dtype
    assert clip.vision.proj.dtype == dtype
    for weight in (block.ln_1.weight, clip.vision.positional_embedding, clip.text.token_embedding.weight):
        assert weight.dtype == torch.float32
    assert features(clip).dtype == torch.float32


def test_activation_is_given_or_read_or_assumed(
    tensors: Tensors, sclip_weights: Path, tmp_path: Path
) -> None:
    exact = load(sclip_weights, device="cpu", activation="gelu")
    assert (exact.activation, exact.activation_known) == ("gelu", True)
    assumed = load(sclip_weights, device="cpu")
    assert (assumed.activation, assumed.activation_known) == ("quickgelu", False)
    assert "quickgelu (assumed)" in assumed.describe()
    path = tmp_path / "gelu.safetensors"
    metadata = {"activation": "gelu", "mean": "0.5, 0.5, 0.5", "std": "[0.25, 0.25, 0.25]"}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    read = load(path, device="cpu")
    assert (read.activation, read.mean, read.std) == ("gelu", (0.5,) * 3, (0.25,) * 3)
    assert torch.equal(features(read), features(exact))
    assert not torch.equal(features(read), features(load(path, device="cpu", activation="quickgelu")))
    assert read.text_fingerprint == exact.text_fingerprint


def test_the_text_fingerprint_depends_on_weights_activation_and_precision(
    tensors: Tensors, tmp_path: Path
) -> None:
    changed = {**tensors, "ln_final.bias": tensors["ln_final.bias"] + 1}
    torch.save(tensors, tmp_path / "a.pt")
    torch.save(changed, tmp_path / "b.pt")
    fingerprints = {
        load(tmp_path / "a.pt", device="cpu").text_fingerprint,
        load(tmp_path / "b.pt", device="cpu").text_fingerprint,
        load(tmp_path / "a.pt", device="cpu", activation="gelu").text_fingerprint,
        load(tmp_path / "a.pt", device="cpu", precision="bfloat16").text_fingerprint,
    }
    assert len(fingerprints) == 4


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"activation": "relu"}, "activation 'relu'"),
        ({"mean": "0.5"}, "mean = '0.5'. Expected three numbers"),
    ],
)
def test_invalid_metadata_is_refused(
    metadata: dict[str, str], message: str, tensors: Tensors, tmp_path: Path
) -> None:
    path = tmp_path / "invalid.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    with pytest.raises(WeightsError, match=message):
        load(path, device="cpu")


def test_openais_names_are_searched_in_its_cache(
    sclip_weights: Path, sclip_model: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(WeightsError, match="ViT-B-16:openai is not in the caches"):
        load("ViT-B-16:openai")
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    shutil.copy(sclip_weights, tmp_path / ".cache" / "clip" / "ViT-B-16.pt")
    publish(monkeypatch, sclip_weights)
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
        ({"device": "gpu"}, "Unknown device 'gpu'. Did you mean cuda[?] Use 'auto'"),
        ({"device": "cuda:99"}, "Cannot use device 'cuda:99' on this machine"),
        ({"precision": "int8"}, "Unknown precision 'int8'"),
        ({"activation": "relu"}, "activation 'relu'.* one of quickgelu, gelu"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, str], message: str, sclip_weights: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(sclip_weights, **options)


def test_auto_precision_is_bfloat16_only_if_native(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda native=native: native)
        assert choose_precision("auto", torch.device("cpu")) == expected
    assert choose_precision("float16", torch.device("cpu")) == "float16"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


def test_another_vocabulary_is_refused(tensors: Tensors, tmp_path: Path) -> None:
    torch.save({**tensors, "token_embedding.weight": torch.zeros(1000, 128)}, tmp_path / "small.pt")
    with pytest.raises(
        WeightsError, match=r"vocabulary 1000\. Only CLIP's tokenizer is supported \(77 and 49408\)"
    ):
        load(tmp_path / "small.pt")


def test_every_weights_error_is_a_tagmask_error(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    for path in (tmp_path / "nowhere.pt", tmp_path / "text.pt", tmp_path):
        with pytest.raises(TagmaskError):
            load(path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "model.", "model._orig_mod.clip."])
def test_checkpoints_of_wrapped_models(
    tensors: Tensors, sclip_model: Clip, tmp_path: Path, prefix: str
) -> None:
    wrapped = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    state = {"head.weight": torch.ones(2), **wrapped}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "last.ckpt")
    assert torch.equal(features(load(tmp_path / "last.ckpt", device="cpu")), features(sclip_model))


EMPTY = {"visual.conv1.weight": torch.zeros(128, 3, 0, 0), "visual.proj": torch.zeros(128, 0)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.conv1.weight": EMPTY["visual.conv1.weight"]}, "patches of 0 pixels"),
        ({"visual.proj": EMPTY["visual.proj"]}, "embeddings of 0 values"),
        ({"visual.proj": torch.zeros(128, 64, dtype=torch.complex64)}, "visual.proj is torch.complex64"),
        ({"visual.\x1b[2J": torch.ones(1)}, r"Unexpected tensors in the towers: visual.\x1b[2J"),
        ({"visual." + "x" * 100_000: torch.ones(1)}, "Unexpected tensors in the towers: visual.xxx"),
    ],
)
def test_other_tensors_are_refused_with_the_file(
    tensors: Tensors, tmp_path: Path, change: Tensors, message: str
) -> None:
    torch.save(tensors | change, tmp_path / "odd.pt")
    with pytest.raises(WeightsError) as error:
        load(tmp_path / "odd.pt", device="cpu", activation="gelu")
    assert str(error.value).startswith(f"{tmp_path / 'odd.pt'}: ")
    assert message in str(error.value)
    assert len(str(error.value).replace(str(tmp_path), "")) < 400


def test_an_image_tower_alone_is_refused_as_one(tensors: Tensors, tmp_path: Path) -> None:
    for prefix in ("", "visual."):
        tower = {name: t for name, t in tensors.items() if name.startswith("visual.")}
        torch.save({prefix + name.removeprefix("visual."): t for name, t in tower.items()}, tmp_path / "a.pt")
        with pytest.raises(WeightsError, match=r"a\.pt: These weights are an image tower without its text"):
            load(tmp_path / "a.pt", device="cpu")


def test_weights_that_are_not_given_are_those_of_the_commands(
    sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(sclip_weights))
    assert load(device="cpu").name == str(sclip_weights)
    monkeypatch.delenv("TAGMASK_WEIGHTS")
    with pytest.raises(WeightsError, match="ViT-B-16:openai"):
        load(device="cpu")

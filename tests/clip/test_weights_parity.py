"""Random weights, written in each format by the library that defines it: features must be equal.

Runs in a separate environment (make parity-weights). Each test prints its largest difference.
"""

import gzip
import json
import shutil
import warnings
from importlib import import_module, resources
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from tagmask.clip.hugging_face import read_hugging_face_config
from tagmask.clip.load import Clip, load
from tagmask.clip.names import KNOWN
from tagmask.clip.tokenizer import tokenize, vocabulary
from tagmask.dense.features import class_token_features
from tests.oracles import clip_tree, hugging_face, torchvision_shim

pytestmark = [pytest.mark.weights_parity, pytest.mark.filterwarnings("ignore")]

BOUND = 1e-5
TEXTS = [
    "a photo of a cat.",
    "DOG",
    "",
    "a  photo of the hard-to-see café's über naïve   traffic light, 2 of 3!",
    "salt &amp; pepper’s 中文 🙂",
]
SIZES = {
    "width": 128,
    "layers": 3,
    "patch": 16,
    "side": 64,
    "embed": 48,
    "text_width": 192,
    "text_layers": 2,
}
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
ACTIVATIONS = ["quickgelu", "gelu"]


@pytest.fixture(scope="module")
def open_clip():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = torchvision_shim.define()
        import open_clip

        yield open_clip
        del library


@pytest.fixture(scope="module")
def transformers(open_clip):
    import transformers

    return transformers


def model_cfg(activation: str, **more: object) -> dict[str, object]:
    return {
        "embed_dim": SIZES["embed"],
        "quick_gelu": activation == "quickgelu",
        "vision_cfg": {
            "image_size": SIZES["side"],
            "layers": SIZES["layers"],
            "width": SIZES["width"],
            "patch_size": SIZES["patch"],
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": SIZES["text_width"],
            "heads": SIZES["text_width"] // 64,
            "layers": SIZES["text_layers"],
        },
        **more,
    }


def randomised(model: torch.nn.Module, scale: float = 1.0) -> torch.nn.Module:
    """Draw every parameter anew, biases too, rounded to half precision, which every format can hold."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                continue
            values = torch.randn(parameter.shape, generator=generator) * scale
            if ".ln_" in name or "ln_" in name.split(".")[0]:
                values = values * 0.1 + (1.0 if name.endswith("weight") else 0.0)
            elif "embedding" in name:
                values = values * 0.3
            else:
                values = values * parameter.shape[-1] ** -0.5
            parameter.copy_(values.half().float())
    return model.eval()


@pytest.fixture(scope="module", params=ACTIVATIONS)
def random_model(request: pytest.FixtureRequest, open_clip):
    """(activation, open_clip's model with it)."""
    return request.param, randomised(open_clip.CLIP(**model_cfg(request.param)))


def pixels(side: int) -> torch.Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def compare(clip: Clip, model: torch.nn.Module, label: str, ids: torch.Tensor | None = None) -> None:
    """Compare image and text features of open_clip's model and of tagmask's, not normalised."""
    side = clip.geometry.grid * clip.geometry.patch
    with torch.inference_mode():
        image = (
            (class_token_features(clip.vision, pixels(side)) - model.encode_image(pixels(side))).abs().max()
        )
        ours = tokenize(TEXTS)
        text = (clip.text(ours) - model.encode_text(ours if ids is None else ids)).abs().max()
        size = model.encode_image(pixels(side)).abs().max()
    print(f"{label}: image {float(image):.1e}, text {float(text):.1e} (features up to {float(size):.1f})")
    assert image < BOUND
    assert text < BOUND


def test_open_clip_folder(random_model, open_clip, tmp_path: Path) -> None:
    activation, model = random_model
    hub = import_module("open_clip.push_to_hf_hub")
    model.visual.image_mean, model.visual.image_std = MEAN, STD
    tokenizer = SimpleNamespace(save_pretrained=lambda folder: None)
    hub.save_for_hf(model, tokenizer, model_cfg(activation), str(tmp_path), safe_serialization="both")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert "open_clip_config.json" in names
    assert "open_clip_model.safetensors" in names
    theirs, _ = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    for weights in (
        tmp_path,
        tmp_path / "open_clip_model.safetensors",
        tmp_path / "open_clip_pytorch_model.bin",
    ):
        clip = load(weights, device="cpu")
        assert (clip.activation, clip.activation_known) == (activation, True)
        assert (clip.mean, clip.std, clip.preprocessing_known) == (MEAN, STD, True)
        compare(clip, theirs, f"open_clip {weights.name}, {activation}")


def test_open_clip_folder_with_a_custom_text_tower(random_model, open_clip, tmp_path: Path) -> None:
    activation, _ = random_model
    cfg = model_cfg(activation)
    model = randomised(open_clip.CustomTextCLIP(**cfg))
    config = {"model_cfg": {**cfg, "custom_text": True}, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    compare(load(tmp_path, device="cpu"), model, f"open_clip custom_text, {activation}")


def test_single_files(random_model, tmp_path: Path) -> None:
    activation, model = random_model
    tensors = model.state_dict()
    torch.save(tensors, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "run.pt"
    )
    save_file(tensors, tmp_path / "with_metadata.safetensors", {"activation": activation})
    for name in ("plain.pt", "run.pt", "with_metadata.safetensors"):
        given = None if name == "with_metadata.safetensors" else activation
        compare(load(tmp_path / name, device="cpu", activation=given), model, f"{name}, {activation}")


def test_openais_archive(open_clip, tmp_path: Path) -> None:
    model = randomised(open_clip.CLIP(**model_cfg("quickgelu")))
    tree = clip_tree.ClipTree(vocab=49408, context=77, **SIZES)
    tree.load_state_dict(model.state_dict(), strict=False)
    torch.jit.script(tree.half()).save(str(tmp_path / "ViT.pt"))
    clip = load(tmp_path / "ViT.pt", device="cpu")
    assert (clip.activation, clip.activation_known) == ("quickgelu", True)
    compare(clip, model, "OpenAI's archive")


@pytest.mark.parametrize("form", ["safetensors", "sharded", "bin"])
def test_hugging_face_folder(form: str, random_model, transformers, tmp_path: Path) -> None:
    activation, model = random_model
    act = {"quickgelu": "quick_gelu", "gelu": "gelu"}[activation]
    config = transformers.CLIPConfig(**hugging_face.config(**SIZES, activation=act))
    theirs = transformers.CLIPModel(config).eval()
    counts = {"layers": SIZES["layers"], "text_layers": SIZES["text_layers"]}
    renamed = hugging_face.tensors(model.state_dict(), **counts)
    result = theirs.load_state_dict(renamed, strict=False)
    assert not result.missing_keys or all("position_ids" in key for key in result.missing_keys)
    assert not result.unexpected_keys
    theirs.save_pretrained(tmp_path, max_shard_size="4MB" if form == "sharded" else "5GB")
    if form == "bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(
            theirs.state_dict() | hugging_face.positions(model.state_dict()), tmp_path / "pytorch_model.bin"
        )
    transformers.CLIPImageProcessor(image_mean=MEAN, image_std=STD).save_pretrained(tmp_path)
    clip = load(tmp_path, device="cpu")
    assert len(clip.files) > 1 or form != "sharded"
    assert (clip.activation, clip.activation_known) == (activation, True)
    assert (clip.mean, clip.std, clip.preprocessing_known) == (MEAN, STD, True)
    compare(clip, model, f"Hugging Face {form}, {activation}, against open_clip")
    with torch.inference_mode():
        shown, ids = pixels(SIZES["side"]), tokenize(TEXTS)
        image = theirs.get_image_features(pixel_values=shown).pooler_output
        text = theirs.get_text_features(input_ids=ids).pooler_output
        image_off = float((class_token_features(clip.vision, shown) - image).abs().max())
        text_off = float((clip.text(ids) - text).abs().max())
    print(f"Hugging Face {form}, {activation}: image {image_off:.1e}, text {text_off:.1e}")
    assert image_off < BOUND
    assert text_off < BOUND
    again = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        assert torch.equal(again.get_image_features(pixel_values=shown).pooler_output, image)


@pytest.mark.parametrize("older", [{"hidden_act": "gelu"}, {}, {"num_hidden_layers": 3}, None])
def test_older_configs_are_read_as_by_transformers(
    older: dict[str, object] | None, transformers, tmp_path: Path
) -> None:
    width = SIZES | {
        "width": 768,
        "text_width": 512,
    }  # transformers' defaults, which older configs rely on
    config = hugging_face.config(**width, activation="gelu")
    config |= {"vision_config_dict": older, "text_config_dict": older}
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = transformers.CLIPConfig(**config).vision_config.hidden_act
    activation = read_hugging_face_config(tmp_path).claims[0].activation
    print(f"{older}: transformers {expected}, tagmask {activation}")
    assert activation == {"quick_gelu": "quickgelu", "gelu": "gelu"}[expected]


def test_tokenizers(open_clip, transformers, tmp_path: Path) -> None:
    assert torch.equal(open_clip.tokenize(TEXTS), tokenize(TEXTS))
    marks = {"<|startoftext|>": "<start_of_text>", "<|endoftext|>": "<end_of_text>"}  # open_clip's spelling
    assert open_clip.SimpleTokenizer().encoder == {marks.get(k, k): v for k, v in vocabulary().items()}
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary(), merges=_merges())
    found = tokenizer(TEXTS[:3], padding=False)["input_ids"]
    for ids, row in zip(found, tokenize(TEXTS[:3]).tolist(), strict=True):
        assert ids == row[: len(ids)]
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(hugging_face.config(**SIZES, activation="gelu")))
    assert (tmp_path / "tokenizer.json").exists() or (tmp_path / "vocab.json").exists()
    read_hugging_face_config(tmp_path)  # a vocabulary written by transformers is accepted as CLIP's


def _merges() -> list[tuple[str, str]]:
    packed = resources.files("tagmask.clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()[1 : 49152 - 256 - 2 + 1]
    return [tuple(line.split()) for line in lines]


def test_the_wrong_activation_is_detected(random_model, open_clip, tmp_path: Path) -> None:
    """Check that the comparison can fail: the other activation is far outside the bound."""
    activation, model = random_model
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    other = ACTIVATIONS[1 - ACTIVATIONS.index(activation)]
    clip = load(tmp_path / "plain.pt", device="cpu", activation=other)
    with torch.inference_mode():
        off = (class_token_features(clip.vision, pixels(64)) - model.encode_image(pixels(64))).abs().max()
    print(f"{activation} read as {other}: off by {float(off):.1e}")
    assert off > 100 * BOUND


@pytest.mark.parametrize(
    "name",
    ["ViT-B-32:laion2b_s34b_b79k", "ViT-B-16:openai", "ViT-L-14:laion2b_s32b_b82k", "ViT-L-14-336:openai"],
)
def test_full_size_under_a_name(
    name: str, open_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Find a full-size model by name in the hub's cache, without the network."""
    entry = KNOWN[name]
    shape = name.split(":")[0] + ("-quickgelu" if entry.activation == "quickgelu" else "")
    model = randomised(open_clip.create_model(shape, pretrained=None), scale=0.5)
    repo = tmp_path / "hub" / f"models--{entry.repos[0].replace('/', '--')}"
    folder = repo / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    shown = {"mean": entry.mean, "std": entry.std}
    config = {"model_cfg": open_clip.get_model_config(shape), "preprocess_cfg": shown}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    clip = load(name, device="cpu")
    shutil.rmtree(repo)
    assert (clip.mean, clip.std) == (entry.mean, entry.std)
    compare(clip, model, f"{name}, full size")


@pytest.mark.parametrize("name", list(KNOWN))
def test_the_table_of_names_is_open_clips(name: str, open_clip) -> None:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from open_clip.pretrained import _PRETRAINED

    entry = KNOWN[name]
    architecture, tag = name.split(":")
    theirs = _PRETRAINED[architecture][tag]
    assert entry.activation == ("quickgelu" if theirs.get("quick_gelu") else "gelu")
    assert entry.mean == tuple(theirs.get("mean") or OPENAI_DATASET_MEAN)
    assert entry.std == tuple(theirs.get("std") or OPENAI_DATASET_STD)
    assert entry.repos[0] == theirs["hf_hub"].rstrip("/")
    assert entry.file == theirs["url"].rpartition("/")[2]
    assert entry.url in ("", theirs["url"])
    assert entry.sha256 in theirs["url"]
    shape = open_clip.get_model_config(architecture)["vision_cfg"]
    assert (entry.architecture.patch, entry.architecture.side) == (shape["patch_size"], shape["image_size"])
    quick = f"{architecture}-quickgelu"
    if tag in _PRETRAINED.get(quick, {}):
        assert entry.activation == "quickgelu"

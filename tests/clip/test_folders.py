"""open_clip and Hugging Face folders: the same features as the plain file, or an error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tagmask.clip.folders import read_raw_weights, weights_files
from tagmask.clip.load import Clip, load
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD
from tagmask.clip.tokenizer import tokenize, vocabulary
from tagmask.dense.features import class_token_features
from tagmask.errors import WeightsError
from tests.oracles import clip_tree, hugging_face

SIZES = {"width": 64, "layers": 2, "patch": 8, "side": 16, "embed": 24, "text_width": 128, "text_layers": 1}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
SCALARS = {"input_resolution", "context_length", "vocab_size"}
Tensors = dict[str, torch.Tensor]
Change = Callable[[dict[str, object]], object]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    torch.manual_seed(3)
    tree = clip_tree.ClipTree(vocab=49408, context=77, **SIZES)
    return {k: t.detach().half().float() for k, t in tree.state_dict().items() if k not in SCALARS}


@pytest.fixture(scope="module")
def plain(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    path = tmp_path_factory.mktemp("plain") / "plain.pt"
    torch.save(tensors, path)
    return {name: load(path, device="cpu", activation=name) for name in ("quickgelu", "gelu")}


def open_clip_config(quick_gelu: bool = False) -> dict[str, object]:
    vision = {"image_size": SIZES["side"], "layers": 2, "width": 64, "patch_size": SIZES["patch"]}
    text = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 1}
    model = {"embed_dim": SIZES["embed"], "vision_cfg": vision, "text_cfg": text}
    if quick_gelu:
        model["quick_gelu"] = True
    return {"model_cfg": model, "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic"}}


@pytest.fixture(scope="module")
def shared(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights files; the folders of the tests link to them."""
    folder = tmp_path_factory.mktemp("files")
    converted = hugging_face.tensors(tensors, layers=2, text_layers=1) | hugging_face.positions(tensors)
    save_file(tensors, folder / "openai.safetensors")
    torch.save(tensors, folder / "openai.bin")
    save_file(converted, folder / "hf.safetensors")
    torch.save(converted, folder / "hf.bin")
    names = sorted(converted)
    for part, part_names in (("first", names[:9]), ("second", names[9:])):
        save_file({name: converted[name] for name in part_names}, folder / f"{part}.safetensors")
    index = {"weight_map": {n: f"{'first' if n in names[:9] else 'second'}.safetensors" for n in names}}
    (folder / "index.json").write_text(json.dumps(index))
    return {path.name: path for path in folder.iterdir()}


def as_open_clip(
    folder: Path,
    shared: dict[str, Path],
    config: dict[str, object],
    name: str = "open_clip_model.safetensors",
) -> Path:
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / name).symlink_to(shared[f"openai{Path(name).suffix}"])
    return folder


def as_hugging_face(
    folder: Path, shared: dict[str, Path], config: dict[str, object], form: str = "one"
) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    processor = {"image_processor_type": "CLIPImageProcessor", "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    links = {
        "one": {"model.safetensors": "hf.safetensors"},
        "bin": {"pytorch_model.bin": "hf.bin"},
        "shards": {
            "model.safetensors.index.json": "index.json",
            "first.safetensors": "first.safetensors",
            "second.safetensors": "second.safetensors",
        },
    }[form]
    for name, target in links.items():
        (folder / name).symlink_to(shared[target])
    return folder


def hf_config(activation: str = "gelu") -> dict[str, object]:
    return hugging_face.config(**SIZES, activation=activation)


def same_features(clip: Clip, other: Clip) -> bool:
    ids, pixels = tokenize(["a cat"]), torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        images = torch.equal(
            class_token_features(clip.vision, pixels), class_token_features(other.vision, pixels)
        )
        return images and torch.equal(clip.text(ids), other.text(ids))


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_folder(
    quick: bool, name: str, shared: dict[str, Path], plain: dict[str, Clip], tmp_path: Path
) -> None:
    folder = as_open_clip(tmp_path, shared, open_clip_config(quick), name)
    for weights in (folder, folder / name):
        clip = load(weights, device="cpu")
        assert (clip.activation, clip.activation_known) == ("quickgelu" if quick else "gelu", True)
        assert (clip.mean, clip.std, clip.preprocessing_known) == (tuple(MEAN), tuple(STD), True)
        assert clip.files == (folder / name,)
        assert "open_clip folder" in clip.format
        assert same_features(clip, plain[clip.activation])
    assert not same_features(clip, plain["gelu" if quick else "quickgelu"])


def test_open_clip_defaults(shared: dict[str, Path], tmp_path: Path) -> None:
    config = open_clip_config()
    clip = load(as_open_clip(tmp_path, shared, {"model_cfg": config["model_cfg"]}), device="cpu")
    assert (clip.activation, clip.mean, clip.std) == ("gelu", OPENAI_MEAN, OPENAI_STD)


def test_open_clip_custom_text_tower(tensors: Tensors, plain: dict[str, Clip], tmp_path: Path) -> None:
    config = open_clip_config()
    config["model_cfg"]["custom_text"] = True
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    unprefixed = ("visual.", "logit_scale")
    prefixed = {k if k.startswith(unprefixed) else f"text.{k}": v for k, v in tensors.items()}
    save_file(prefixed, tmp_path / "open_clip_model.safetensors")
    assert same_features(load(tmp_path, device="cpu"), plain["gelu"])


@pytest.mark.parametrize("form", ["one", "bin", "shards"])
@pytest.mark.parametrize(("theirs", "ours"), [("quick_gelu", "quickgelu"), ("gelu", "gelu")])
def test_hugging_face_folder(
    form: str, theirs: str, ours: str, shared: dict[str, Path], plain: dict[str, Clip], tmp_path: Path
) -> None:
    clip = load(as_hugging_face(tmp_path, shared, hf_config(theirs), form), device="cpu")
    assert (clip.activation, clip.activation_known) == (ours, True)
    assert (clip.mean, clip.std, clip.preprocessing_known) == (tuple(MEAN), tuple(STD), True)
    assert len(clip.files) == (2 if form == "shards" else 1)
    assert same_features(clip, plain[ours])


def test_a_hugging_face_file_is_read_with_its_folder_or_with_a_warning(
    shared: dict[str, Path], plain: dict[str, Clip], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = as_hugging_face(tmp_path, shared, hf_config("gelu"))
    assert load(folder / "model.safetensors", device="cpu").activation == "gelu"
    assert not caplog.records
    alone = load(shared["hf.safetensors"], device="cpu")
    assert (alone.activation, alone.activation_known, alone.preprocessing_known) == (
        "quickgelu",
        False,
        False,
    )
    assert "does not give its activation" in caplog.text
    assert same_features(alone, plain["quickgelu"])


def test_processor_config_is_read(shared: dict[str, Path], tmp_path: Path) -> None:
    folder = as_hugging_face(tmp_path, shared, hf_config())
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    assert not load(folder, device="cpu").preprocessing_known
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": processor}))
    assert load(folder, device="cpu").mean == tuple(MEAN)


def test_a_folder_with_both_configs_is_read_by_its_weights(shared: dict[str, Path], tmp_path: Path) -> None:
    as_hugging_face(tmp_path, shared, hf_config("quick_gelu"))
    (tmp_path / "open_clip_config.json").write_text(json.dumps(open_clip_config()))
    assert load(tmp_path, device="cpu").activation == "quickgelu"  # it has Hugging Face's weights only
    as_open_clip(tmp_path, shared, open_clip_config())
    assert load(tmp_path, device="cpu").activation == "gelu"


def test_an_activation_that_contradicts_the_folder_is_a_warning(
    shared: dict[str, Path], plain: dict[str, Clip], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = as_open_clip(tmp_path, shared, open_clip_config())
    clip = load(folder, device="cpu", activation="quickgelu")
    assert same_features(clip, plain["quickgelu"])
    assert "but open_clip_config.json says gelu" in caplog.text


def put(key: str, value: object) -> Change:
    """Change one setting, by its path."""

    def change(config: dict[str, object]) -> None:
        *parents, last = key.split("/")
        for parent in parents:
            config = config.setdefault(parent, {})
        config[last] = value

    return change


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model_cfg/vision_cfg/timm_model_name",
            "vit_base_patch16_siglip_224",
            "timm_model_name = 'vit_base",
        ),
        ("model_cfg/vision_cfg/layers", [3, 4, 6, 3], "a CLIP ResNet"),
        ("model_cfg/vision_cfg/head_width", 88, "head_width = 88"),
        ("model_cfg/vision_cfg/no_ln_pre", True, "no_ln_pre = True"),
        ("model_cfg/vision_cfg/pool_type", "avg", "pool_type = 'avg'"),
        ("model_cfg/vision_cfg/ls_init_value", 1e-5, "ls_init_value = 1e-05"),
        ("model_cfg/vision_cfg/something_new", 1, "something_new = 1"),
        ("model_cfg/vision_cfg/patch_size", [8, 4], "Only square images and patches"),
        ("model_cfg/vision_cfg/image_size", 32, "gives grid = 4 (the tensors: 2)"),
        ("model_cfg/vision_cfg/layers", 3, "gives vision_layers = 3 (the tensors: 2)"),
        ("model_cfg/text_cfg/heads", 4, "gives text_heads = 4 (the tensors: 2)"),
        ("model_cfg/text_cfg/hf_tokenizer_name", "bert-base", "hf_tokenizer_name = 'bert-base'"),
        ("model_cfg/text_cfg/tokenizer_kwargs", {"clean": "canonicalize"}, "tokenizer_kwargs"),
        ("model_cfg/text_cfg/no_causal_mask", True, "no_causal_mask = True"),
        ("model_cfg/init_logit_bias", -10, "init_logit_bias = -10"),
        ("model_cfg/quick_gelu", "yes", "quick_gelu = 'yes'"),
        ("model_cfg/text_cfg", None, "does not describe both towers"),
        ("model_cfg/text_cfg", 3, "text_cfg = 3. Expected an object"),
        ("preprocess_cfg/mean", [0.5], "mean = [0.5]. Expected three numbers"),
        ("preprocess_cfg/mode", "L", "mode 'L'"),
    ],
)
def test_unsupported_open_clip_configs_are_refused(
    key: str, value: object, message: str, shared: dict[str, Path], tmp_path: Path
) -> None:
    config = open_clip_config()
    put(key, value)(config)
    with pytest.raises(WeightsError) as error:
        load(as_open_clip(tmp_path, shared, config), device="cpu")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "siglip", "a model of type 'siglip'"),
        ("model_type", None, "a model of type None"),
        ("vision_config/hidden_act", "quick_gelu", "hidden_act = gelu and quick_gelu"),
        ("vision_config/layer_norm_eps", 1e-6, "layer_norm_eps = 1e-06"),
        ("vision_config/num_attention_heads", 4, "gives vision_heads = 4 (the tensors: 1)"),
        ("vision_config/image_size", 24, "gives grid = 3 (the tensors: 2)"),
        ("text_config/eos_token_id", 102, "ends texts with the token 102"),
        ("projection_dim", 512, "gives embed = 512 (the tensors: 24)"),
        ("text_config_dict", {"hidden_act": "gelu_new"}, "hidden_act = gelu and gelu_new"),
        ("text_config", [], "Expected an object"),
    ],
)
def test_unsupported_hugging_face_configs_are_refused(
    key: str, value: object, message: str, shared: dict[str, Path], tmp_path: Path
) -> None:
    config = hf_config()
    put(key, value)(config)
    with pytest.raises(WeightsError) as error:
        load(as_hugging_face(tmp_path, shared, config), device="cpu")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_mean": [0.5, 0.5], "image_std": STD}, "Expected three numbers"),
        (
            {"image_processor_type": "ViTImageProcessor"},
            "the image processor 'ViTImageProcessor' without image_mean",
        ),
        ({"image_mean": MEAN, "image_std": STD, "do_rescale": False}, "does not scale pixels to 0..1"),
        (
            {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 127.5},
            "does not scale pixels to 0..1",
        ),
    ],
)
def test_unsupported_preprocessing_is_refused(
    processor: dict[str, object], message: str, shared: dict[str, Path], tmp_path: Path
) -> None:
    folder = as_hugging_face(tmp_path, shared, hf_config())
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(WeightsError) as error:
        load(folder, device="cpu")
    assert message in str(error.value)


def test_images_that_are_not_normalised(shared: dict[str, Path], tmp_path: Path) -> None:
    folder = as_hugging_face(tmp_path, shared, hf_config())
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    clip = load(folder, device="cpu")
    assert (clip.mean, clip.std) == ((0.0,) * 3, (1.0,) * 3)


def test_another_tokenizer_is_refused(shared: dict[str, Path], tmp_path: Path) -> None:
    folder = as_hugging_face(tmp_path, shared, hf_config())
    vocab = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    read_raw_weights(folder)
    swapped = vocab | {"cat</w>": vocab["dog</w>"], "dog</w>": vocab["cat</w>"]}
    (folder / "vocab.json").write_text(json.dumps(swapped))
    with pytest.raises(WeightsError, match="is not CLIP's: 49406 of 49408 entries are equal"):
        read_raw_weights(folder)
    (folder / "vocab.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": swapped}}))
    with pytest.raises(WeightsError, match="is not CLIP's: "):
        read_raw_weights(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    with pytest.raises(WeightsError, match="names the tokenizer 'BertTokenizer'"):
        read_raw_weights(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "It holds nothing. Add open_clip_config.json or config.json"),
        (
            {"a.txt": "", "x.pt": ""},
            "It holds x.pt. Add open_clip_config.json or config.json, or give the",
        ),
        ({"config.json": "{}"}, "It holds config.json. The weights are missing: open_clip_model.safetensors"),
        ({"open_clip_config.json": "{}"}, "The weights are missing"),
        ({"open_clip_config.json": "no", "open_clip_model.safetensors": ""}, "is not valid JSON"),
        ({"open_clip_config.json": "[1]", "open_clip_model.safetensors": ""}, "holds a list, not an object"),
        ({"config.json": "{", "model.safetensors": ""}, "is not valid JSON"),
        (
            {"config.json": '{"model_type": "clip"}', "model.safetensors.index.json": '{"weight_map": {}}'},
            "names no files",
        ),
        (
            {
                "config.json": '{"model_type": "clip"}',
                "model.safetensors.index.json": '{"weight_map": {"a": "../../secret.bin"}}',
            },
            "Expected names of files in its own folder",
        ),
        (
            {
                "config.json": '{"model_type": "clip"}',
                "model.safetensors.index.json": '{"weight_map": {"a": "gone.safetensors"}}',
            },
            "The weights are missing",
        ),
    ],
)
def test_folders_without_a_clip(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(WeightsError) as error:
        load(tmp_path, device="cpu")
    assert message in str(error.value)


def test_a_tensor_in_two_shards_is_refused(shared: dict[str, Path], tmp_path: Path) -> None:
    folder = as_hugging_face(tmp_path, shared, hf_config(), "shards")
    (folder / "second.safetensors").unlink()
    (folder / "second.safetensors").symlink_to(shared["hf.safetensors"])
    with pytest.raises(WeightsError, match="is in two shards"):
        read_raw_weights(folder)


def test_an_unrelated_config_in_the_folder_is_ignored(shared: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "my training run"}')
    (tmp_path / "model.safetensors").symlink_to(shared["openai.safetensors"])
    assert load(tmp_path / "model.safetensors", device="cpu", activation="gelu").geometry.embed == 24
    assert weights_files(tmp_path / "nowhere") == ()

"""A Hugging Face `CLIPModel` folder -> what its files say of its weights.

config.json                 sizes, hidden_act of both towers
preprocessor_config.json    image_mean, image_std; newer folders: processor_config.json, "image_processor"
vocab.json, tokenizer.json  the vocabulary, which must be CLIP's own
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, Triple, triple
from tagmask.clip.model_config import ModelConfig, configured_sizes, fields, read_json
from tagmask.clip.tokenizer import END, VOCABULARY, vocabulary
from tagmask.errors import WeightsError

__all__ = ["CONFIG", "INDEXES", "SIDE_FILES", "WEIGHTS", "describe_hugging_face", "shards"]

CONFIG: Final = "config.json"
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SIDE_FILES: Final = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "vocab.json",
    "tokenizer.json",
)
"""Small files beside the weights that are read where they are there."""

_ACTIVATIONS: Final[Mapping[str, str]] = MappingProxyType({"quick_gelu": "quickgelu", "gelu": "gelu"})
_EPS: Final = 1e-5
_TOKENIZERS: Final = (None, "CLIPTokenizer", "CLIPTokenizerFast")
_PROCESSORS: Final = (
    None,
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
)


def describe_hugging_face(folder: Path) -> ModelConfig:
    """Read and check the JSON files of a `CLIPModel`'s folder.

    Raises:
        WeightsError: they cannot be read, or describe what this version does not compute.
    """
    path = folder / CONFIG
    config = read_json(path)
    kind = config.get("model_type")
    if kind != "clip":
        raise WeightsError(
            f"{path} describes a model of type {kind!r}; of Hugging Face's, this version reads CLIPModel "
            "(model_type 'clip') with ViT towers only."
        )
    vision, text = _tower(config, "vision_config", path), _tower(config, "text_config", path)
    _check_text(text, path)
    _check_tokenizer(folder)
    mean, std = _preprocessing(folder)
    claims = [MetadataClaim(CONFIG, activation=_activation(vision, text, path))]
    if mean and std:
        claims.append(MetadataClaim("the image processor's config", mean=mean, std=std))
    sizes = _sizes(config, vision, text, str(path))
    return ModelConfig(tuple(claims), "Hugging Face folder", sizes, str(path))


def shards(index: Path) -> tuple[str, ...]:
    """The files that an index of sharded weights names.

    Raises:
        WeightsError: it cannot be read, or names files outside its folder.
    """
    names = sorted({str(name) for name in fields(read_json(index), "weight_map", str(index)).values()})
    outside = [name for name in names if Path(name).name != name or "\\" in name or name in ("", "..")]
    if outside or not names:
        raise WeightsError(
            f"{index} names {outside or 'no files'}; plain names of files beside it were wanted."
        )
    return tuple(names)


def _tower(config: Mapping[str, object], key: str, path: Path) -> dict[str, object]:
    """One tower's settings. An older form of them, under KEY_dict, replaces them whole in transformers."""
    older = f"{key}_dict"
    return fields(config, key if config.get(older) is None else older, str(path))


def _activation(vision: Mapping[str, object], text: Mapping[str, object], path: Path) -> str:
    said = {str(tower.get("hidden_act", "quick_gelu")) for tower in (vision, text)}
    if len(said) > 1 or not said <= _ACTIVATIONS.keys():
        raise WeightsError(
            f"{path} gives hidden_act = {' and '.join(sorted(said))}; one of {', '.join(_ACTIVATIONS)} for "
            "both towers was wanted."
        )
    for tower in (vision, text):
        eps = tower.get("layer_norm_eps", _EPS)
        if eps != _EPS:
            raise WeightsError(f"{path} gives layer_norm_eps = {eps!r}; this version computes with {_EPS}.")
    return _ACTIVATIONS[said.pop()]


def _check_text(text: Mapping[str, object], path: Path) -> None:
    # 2 is what OpenAI's own folders say; transformers then takes the largest id, as CLIP does.
    end = text.get("eos_token_id", END)
    if end not in (2, END, None):
        raise WeightsError(
            f"{path} ends texts with the token {end}; CLIP's own vocabulary ends them with {END}, so this "
            "text tower has another tokenizer, which this version does not read."
        )


def _check_tokenizer(folder: Path) -> None:
    """Refuse a vocabulary that is not CLIP's own, under which words would be misread."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        kind = read_json(path).get("tokenizer_class")
        # Newer folders name the base of their tokenizer.json's class; its vocabulary is compared below.
        if kind not in (*_TOKENIZERS, "TokenizersBackend", "PreTrainedTokenizerFast"):
            raise WeightsError(f"{path} names the tokenizer {kind!r}; this version reads CLIP's own only.")
    plain, full = folder / "vocab.json", folder / "tokenizer.json"
    if plain.is_file():
        found = read_json(plain)
    elif full.is_file():
        found = fields(fields(read_json(full), "model", str(full)), "vocab", str(full))
    else:
        return
    if found != vocabulary():
        known = sum(found.get(symbol) == number for symbol, number in vocabulary().items())
        raise WeightsError(
            f"The vocabulary in {folder} is not CLIP's own: {known} of {VOCABULARY} entries are the same. "
            "Words would be misread, so these weights are refused."
        )


def _preprocessing(folder: Path) -> tuple[Triple | None, Triple | None]:
    path = folder / "preprocessor_config.json"
    shown = read_json(path) if path.is_file() else {}
    if not shown:
        path = folder / "processor_config.json"
        shown = fields(read_json(path), "image_processor", str(path)) if path.is_file() else {}
    if not shown:
        return None, None
    kind = shown.get("image_processor_type", shown.get("feature_extractor_type"))
    if "image_mean" not in shown and kind not in _PROCESSORS:
        raise WeightsError(f"{path} names the image processor {kind!r} and no image_mean; CLIP's was wanted.")
    scale = shown.get("rescale_factor", 1 / 255)
    if shown.get("do_rescale", True) is False or not isinstance(scale, float) or abs(scale * 255 - 1) > 1e-3:
        raise WeightsError(f"{path} does not scale pixels to 0..1, as this version does.")
    if shown.get("do_normalize", True) is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean = triple(shown.get("image_mean", list(OPENAI_MEAN)), "mean", f"{path}, image_mean,")
    return mean, triple(shown.get("image_std", list(OPENAI_STD)), "std", f"{path}, image_std,")


def _sizes(
    config: Mapping[str, object], vision: Mapping[str, object], text: Mapping[str, object], by: str
) -> dict[str, int]:
    """What is stated, by the names of `Geometry`. No tensor tells the heads, so their default counts too."""
    stated = {
        "embed": config.get("projection_dim"),
        "vision_width": vision.get("hidden_size"),
        "vision_layers": vision.get("num_hidden_layers"),
        "vision_heads": vision.get("num_attention_heads", 12),
        "text_width": text.get("hidden_size"),
        "text_layers": text.get("num_hidden_layers"),
        "text_heads": text.get("num_attention_heads", 8),
        "context": text.get("max_position_embeddings"),
        "vocab": text.get("vocab_size"),
    }
    return configured_sizes(stated, vision, by)

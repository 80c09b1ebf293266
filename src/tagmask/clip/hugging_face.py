"""Read the config files of a Hugging Face `CLIPModel` folder.

config.json                 sizes, hidden_act of both towers
preprocessor_config.json    image_mean, image_std; newer folders: processor_config.json, "image_processor"
vocab.json, tokenizer.json  the vocabulary, which must be CLIP's own
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, Triple, triple
from tagmask.clip.model_config import ModelConfig, configured_sizes, read_json, section
from tagmask.clip.tokenizer import END, VOCABULARY, vocabulary
from tagmask.errors import WeightsError
from tagmask.printable import short_repr, shortened

__all__ = ["CONFIG", "INDEXES", "OPTIONAL_CONFIGS", "WEIGHTS", "read_hugging_face_config", "shard_files"]

CONFIG: Final = "config.json"
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
OPTIONAL_CONFIGS: Final = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "vocab.json",
    "tokenizer.json",
)
"""Small files in the folder that are read if they exist."""

_ACTIVATIONS: Final[Mapping[str, str]] = MappingProxyType({"quick_gelu": "quickgelu", "gelu": "gelu"})
_MAX_SHARDS: Final = 1000
_MAX_NAME_BYTES: Final = 255
"""Longest name that common file systems can hold."""
_LAYER_NORM_EPS: Final = 1e-5
_TOKENIZERS: Final = (None, "CLIPTokenizer", "CLIPTokenizerFast")
_PROCESSORS: Final = (
    None,
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
)


def read_hugging_face_config(folder: Path) -> ModelConfig:
    """Read and check the JSON files of a `CLIPModel`'s folder.

    Raises:
        WeightsError: they cannot be read, or describe a model that is not supported.
    """
    path = folder / CONFIG
    config = read_json(path)
    kind = config.get("model_type")
    if kind != "clip":
        raise WeightsError(
            f"{path} describes a model of type {short_repr(kind)}. Of Hugging Face's models, only CLIPModel "
            "(model_type 'clip') with ViT towers is supported."
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


def shard_files(index: Path) -> tuple[str, ...]:
    """List the files named in an index of sharded weights.

    Raises:
        WeightsError: the index cannot be read, or names files outside its folder.
    """
    values = list(dict.fromkeys(map(_text, section(read_json(index), "weight_map", str(index)).values())))
    outside = [name for name in values if not _is_file_name(name)]
    if outside or not values or len(values) > _MAX_SHARDS:
        what = ", ".join(map(shortened, outside[:4])) if outside else f"{len(values) or 'no'} files"
        raise WeightsError(
            f"{index} names {what}. Expected names of files in its own folder, at most {_MAX_SHARDS}."
        )
    return tuple(sorted(values))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_file_name(name: str) -> bool:
    """Whether a name is that of a file in a folder: printable, and not a path."""
    plain = name not in ("", ".", "..") and not {"/", "\\"} & set(name) and name.isprintable()
    return plain and len(name.encode()) <= _MAX_NAME_BYTES


def _tower(config: Mapping[str, object], key: str, path: Path) -> dict[str, object]:
    """Return one tower's settings. As in transformers, the older KEY_dict replaces KEY entirely."""
    older = f"{key}_dict"
    return section(config, key if config.get(older) is None else older, str(path))


def _activation(vision: Mapping[str, object], text: Mapping[str, object], path: Path) -> str:
    names = {str(tower.get("hidden_act", "quick_gelu")) for tower in (vision, text)}
    if len(names) > 1 or not names <= _ACTIVATIONS.keys():
        raise WeightsError(
            f"{path} gives hidden_act = {' and '.join(map(shortened, sorted(names)))}. Expected one of "
            f"{', '.join(_ACTIVATIONS)} for both towers."
        )
    for tower in (vision, text):
        eps = tower.get("layer_norm_eps", _LAYER_NORM_EPS)
        if eps != _LAYER_NORM_EPS:
            raise WeightsError(
                f"{path} gives layer_norm_eps = {short_repr(eps)}. Only {_LAYER_NORM_EPS} is supported."
            )
    return _ACTIVATIONS[names.pop()]


def _check_text(text: Mapping[str, object], path: Path) -> None:
    # OpenAI's own folders say 2; transformers then takes the largest id, as CLIP does.
    end = text.get("eos_token_id", END)
    if end not in (2, END, None):
        raise WeightsError(
            f"{path} ends texts with the token {short_repr(end)}; CLIP's vocabulary ends them with {END}. "
            "Only CLIP's tokenizer is supported."
        )


def _check_tokenizer(folder: Path) -> None:
    """Refuse a vocabulary other than CLIP's, since words would get wrong ids."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        kind = read_json(path).get("tokenizer_class")
        # Newer folders name the base class of the tokenizer; its vocabulary is compared below.
        if kind not in (*_TOKENIZERS, "TokenizersBackend", "PreTrainedTokenizerFast"):
            raise WeightsError(
                f"{path} names the tokenizer {short_repr(kind)}. Only CLIP's tokenizer is supported."
            )
    plain, full = folder / "vocab.json", folder / "tokenizer.json"
    if plain.is_file():
        vocab = read_json(plain)
    elif full.is_file():
        vocab = section(section(read_json(full), "model", str(full)), "vocab", str(full))
    else:
        return
    if vocab != vocabulary():
        same = sum(vocab.get(symbol) == number for symbol, number in vocabulary().items())
        raise WeightsError(
            f"The vocabulary in {folder} is not CLIP's: {same} of {VOCABULARY} entries are equal. "
            "Only CLIP's tokenizer is supported."
        )


def _preprocessing(folder: Path) -> tuple[Triple | None, Triple | None]:
    path = folder / "preprocessor_config.json"
    config = read_json(path) if path.is_file() else {}
    if not config:
        path = folder / "processor_config.json"
        config = section(read_json(path), "image_processor", str(path)) if path.is_file() else {}
    if not config:
        return None, None
    kind = config.get("image_processor_type", config.get("feature_extractor_type"))
    if "image_mean" not in config and kind not in _PROCESSORS:
        raise WeightsError(
            f"{path} names the image processor {short_repr(kind)} without image_mean. "
            "Expected CLIP's image processor."
        )
    scale = config.get("rescale_factor", 1 / 255)
    if config.get("do_rescale", True) is False or not isinstance(scale, float) or abs(scale * 255 - 1) > 1e-3:
        raise WeightsError(f"{path} does not scale pixels to 0..1. Other ranges are not supported.")
    if config.get("do_normalize", True) is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean = triple(config.get("image_mean", list(OPENAI_MEAN)), "mean", f"{path}, image_mean,")
    return mean, triple(config.get("image_std", list(OPENAI_STD)), "std", f"{path}, image_std,")


def _sizes(
    config: Mapping[str, object], vision: Mapping[str, object], text: Mapping[str, object], by: str
) -> dict[str, int]:
    """Return the configured sizes by the names of `Geometry`.

    The number of heads has a default here, since no tensor shows it.
    """
    sizes = {
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
    return configured_sizes(sizes, vision, by)

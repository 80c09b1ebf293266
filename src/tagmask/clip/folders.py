"""Open a weights file or folder: its tensors in OpenAI's key layout, and the config that describes them.

A single file inside an open_clip or Hugging Face folder is read together with that folder's config, since the
file alone does not say which activation it needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagmask.clip import hugging_face, open_clip
from tagmask.clip.archives import STUDENT_FORMAT, Archive, open_weights
from tagmask.clip.hf_key_map import is_hugging_face, to_openai_layout, without_text_prefix
from tagmask.clip.hugging_face import read_hugging_face_config, shard_files
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, triple
from tagmask.clip.model import ACTIVATIONS
from tagmask.clip.model_config import ModelConfig, read_json
from tagmask.clip.open_clip import read_open_clip_config
from tagmask.clip.stored import StoredTensor
from tagmask.clip.wrappers import only_clip
from tagmask.errors import WeightsError
from tagmask.printable import short_repr, shortened

__all__ = ["RawWeights", "read_config", "read_raw_weights", "weights_files"]

_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"openai-archive": "OpenAI's archive", "state-dict": "state dict", "safetensors": "safetensors"}
)
_OTHER_NAMES: Final = (*hugging_face.WEIGHTS, "pytorch_model.pth", "model.pth")


@dataclass(frozen=True)
class RawWeights:
    """The content of a weights file or folder, not yet checked."""

    tensors: Mapping[str, StoredTensor]
    """In OpenAI's key layout."""
    kind: str
    """The format, for display."""
    files: tuple[Path, ...]
    """The files that the tensors were read from."""
    config: ModelConfig
    metadata: Mapping[str, str]
    """The file's header; empty for formats without one."""


def read_raw_weights(path: Path) -> RawWeights:
    """Find the tensors of weights of any format, with their config and metadata.

    Args:
        path: a weights file (`archives.open_weights`), or a folder with a weights file under one of the
            standard names and open_clip's `open_clip_config.json` or a Hugging Face CLIPModel's
            `config.json`.

    Raises:
        WeightsError: absent, unreadable, unsafe, or of another kind of model.
    """
    try:
        if not path.is_dir():
            return _read((path,), _config_of_file(path))
        files = weights_files(path)
        if not files:
            raise WeightsError(_no_weights_message(path))
        return _read(files, read_config(path))
    except OSError as error:  # a name that no file can have, or a closed folder
        raise WeightsError(f"{shortened(path)} cannot be read: {error.strerror}.") from error


def read_config(folder: Path) -> ModelConfig:
    """Read and check the JSON files that describe a folder's weights.

    Raises:
        WeightsError: they describe a model that is not supported.
    """
    if _is_open_clip(folder):
        return read_open_clip_config(folder)
    if (folder / hugging_face.CONFIG).is_file():
        return read_hugging_face_config(folder)
    return ModelConfig(())


def weights_files(folder: Path) -> tuple[Path, ...]:
    """The weights file, or all shards, of a folder with a config; empty if any of them is missing.

    Raises:
        WeightsError: the index of the shards is invalid.
    """
    if _is_open_clip(folder):
        names = (*open_clip.WEIGHTS, *_OTHER_NAMES)
        return next(((folder / name,) for name in names if (folder / name).is_file()), ())
    if not (folder / hugging_face.CONFIG).is_file():
        return ()
    for single, index in zip(hugging_face.WEIGHTS, hugging_face.INDEXES, strict=True):
        if (folder / single).is_file():
            return (folder / single,)
        if (folder / index).is_file():
            parts = tuple(folder / name for name in shard_files(folder / index))
            if all(part.is_file() for part in parts):
                return parts
    return ()


def _config_of_file(path: Path) -> ModelConfig:
    """Read the config in the same folder as a weights file, if the file has a standard name."""
    folder, name = path.parent, path.name
    if (folder / open_clip.CONFIG).is_file() and name in open_clip.WEIGHTS:
        return read_open_clip_config(folder)
    if name in hugging_face.WEIGHTS and _is_clip_model(folder):
        return read_hugging_face_config(folder)
    return ModelConfig(())


def _is_clip_model(folder: Path) -> bool:
    config = folder / hugging_face.CONFIG
    return config.is_file() and read_json(config).get("model_type") == "clip"


def _is_open_clip(folder: Path) -> bool:
    """Whether to read a folder as open_clip's; one with both configs counts if it has open_clip's weights."""
    if not (folder / open_clip.CONFIG).is_file():
        return False
    has_weights = any((folder / name).is_file() for name in open_clip.WEIGHTS)
    return has_weights or not _is_clip_model(folder)


def _no_weights_message(folder: Path) -> str:
    """Explain why a folder cannot be read."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"{folder} cannot be listed: {error.strerror}."
    configs = [name for name in (open_clip.CONFIG, hugging_face.CONFIG) if name in names]
    files = [name for name in names if name.endswith((".pt", ".pth", ".bin", ".safetensors"))]
    content = ", ".join(map(shortened, (configs + files or names)[:4])) or "nothing"
    if not configs:
        advice = f"Add {open_clip.CONFIG} or {hugging_face.CONFIG}, or give the weights file itself"
    else:
        expected = ", ".join((open_clip.WEIGHTS[0], open_clip.WEIGHTS[2], *hugging_face.WEIGHTS))
        advice = f"The weights are missing: {expected}, or all shards of an index"
    return f"{folder} is not a folder of open_clip or Hugging Face. It holds {content}. {advice}."


def _read(files: tuple[Path, ...], config: ModelConfig) -> RawWeights:
    archives = [open_weights(file) for file in files]
    if archives[0].metadata.get("format", "").startswith(STUDENT_FORMAT):
        raise WeightsError(
            f"{files[0]} is a trained student, not a CLIP. It masks the words of its training: "
            f"`tagmask mask PHOTOS --student {files[0]} -o RUN`."
        )
    tensors: dict[str, StoredTensor] = {}
    for archive in archives:
        repeated = tensors.keys() & archive.tensors.keys()
        if repeated:
            name = shortened(sorted(repeated)[0])
            raise WeightsError(f"{files[0].parent}: {name} is in two shards. Download the folder again.")
        tensors |= archive.tensors
    first = archives[0]
    kind = _KINDS[first.kind]
    tensors = only_clip(tensors, files[0])
    if is_hugging_face(tensors):
        try:
            tensors = to_openai_layout(tensors)
        except WeightsError as error:
            raise WeightsError(f"{files[0]}: {error}") from error
        kind = f"{kind} in Hugging Face's key layout"
    elif config.custom_text:
        tensors = without_text_prefix(tensors)
    claims = (*config.claims, *_claims_of_file(first, files[0]))
    return RawWeights(
        tensors=tensors,
        kind=f"{config.kind}, {kind}" if config.kind else kind,
        files=files,
        config=replace(config, claims=claims),
        metadata=first.metadata,
    )


def _claims_of_file(archive: Archive[StoredTensor], file: Path) -> tuple[MetadataClaim, ...]:
    """The claims in a file's own metadata, or those that follow from its being OpenAI's archive."""
    if archive.kind == "openai-archive":
        # An archive that calls GELU is not OpenAI's; its mean and std are unknown.
        if archive.metadata.get("activation") == "gelu":
            return (MetadataClaim(f"the code in {file.name}", "gelu"),)
        return (MetadataClaim(f"OpenAI's archive {file.name}", "quickgelu", OPENAI_MEAN, OPENAI_STD),)
    activation = archive.metadata.get("activation")
    if activation is not None and activation not in ACTIVATIONS:
        raise WeightsError(
            f"Unknown activation {short_repr(activation)} in the metadata of {file}. "
            f"Expected one of {', '.join(ACTIVATIONS)}."
        )
    entries = {
        key: _parse_triple(archive.metadata[key]) for key in ("mean", "std") if key in archive.metadata
    }
    triples = {key: triple(value, key, f"The metadata of {file.name}") for key, value in entries.items()}
    if activation is None and not triples:
        return ()
    by = f"the metadata of {file.name}"
    return (MetadataClaim(by, activation, triples.get("mean"), triples.get("std")),)


def _parse_triple(text: str) -> object:
    """Parse three numbers separated by commas into a list; return any other text as it is."""
    try:
        numbers = [float(part) for part in text.strip("()[] ").split(",")]
    except ValueError:
        return text
    return numbers if len(numbers) == 3 else text

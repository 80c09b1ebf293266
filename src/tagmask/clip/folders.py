"""A weights file or folder -> tensors in OpenAI's layout, and what is said of them.

A file whose name and neighbours show that it belongs to such a folder is read as that folder, since the file
alone does not say which activation it needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from torch import Tensor

from tagmask.clip import hugging_face, open_clip
from tagmask.clip.archives import Archive, read_weights
from tagmask.clip.hf_key_map import is_hugging_face, openai_layout, without_text_prefix
from tagmask.clip.hugging_face import describe_hugging_face, shards
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, triple
from tagmask.clip.model import ACTIVATIONS
from tagmask.clip.model_config import ModelConfig, read_json
from tagmask.clip.open_clip import describe_open_clip
from tagmask.errors import WeightsError

__all__ = ["RawWeights", "describe", "read_raw_weights", "weights_files"]

_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"openai-archive": "OpenAI's archive", "state-dict": "state dict", "safetensors": "safetensors"}
)
_OTHER_NAMES: Final = (*hugging_face.WEIGHTS, "pytorch_model.pth", "model.pth")


@dataclass(frozen=True)
class RawWeights:
    """What a file or a folder of weights holds."""

    tensors: Mapping[str, Tensor]
    """In OpenAI's key layout, unchecked."""
    kind: str
    """The format, for people."""
    files: tuple[Path, ...]
    """Those that the tensors were read from."""
    config: ModelConfig
    metadata: Mapping[str, str]
    """Of the file's header; empty for formats without one."""


def read_raw_weights(path: Path) -> RawWeights:
    """Read weights of any format, and all that is said of them.

    Args:
        path: a weights file (`archives.read_weights`), or a folder with weights of one of the usual names and
            open_clip's `open_clip_config.json` or a Hugging Face CLIPModel's `config.json`.

    Raises:
        WeightsError: absent, unreadable, unsafe, or of another kind of model.
    """
    if not path.is_dir():
        return _read((path,), _describe_beside(path))
    files = weights_files(path)
    if not files:
        raise WeightsError(_empty(path))
    return _read(files, describe(path))


def describe(folder: Path) -> ModelConfig:
    """What a folder's JSON files say of its weights, checked.

    Raises:
        WeightsError: they describe what this version does not compute.
    """
    if _is_open_clip(folder):
        return describe_open_clip(folder)
    if (folder / hugging_face.CONFIG).is_file():
        return describe_hugging_face(folder)
    return ModelConfig(())


def weights_files(folder: Path) -> tuple[Path, ...]:
    """The file, or the shards, that hold a described folder's weights; none where they are not all there.

    Raises:
        WeightsError: an index of shards cannot be used.
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
            parts = tuple(folder / name for name in shards(folder / index))
            if all(part.is_file() for part in parts):
                return parts
    return ()


def _describe_beside(path: Path) -> ModelConfig:
    """What the files beside a single weights file say of it, if its name is that of their weights."""
    folder, name = path.parent, path.name
    if (folder / open_clip.CONFIG).is_file() and name in open_clip.WEIGHTS:
        return describe_open_clip(folder)
    if name in hugging_face.WEIGHTS and _is_clip_model(folder):
        return describe_hugging_face(folder)
    return ModelConfig(())


def _is_clip_model(folder: Path) -> bool:
    config = folder / hugging_face.CONFIG
    return config.is_file() and read_json(config).get("model_type") == "clip"


def _is_open_clip(folder: Path) -> bool:
    """A folder may hold both forms; open_clip's is read where its weights are there, or no others."""
    if not (folder / open_clip.CONFIG).is_file():
        return False
    own = any((folder / name).is_file() for name in open_clip.WEIGHTS)
    return own or not _is_clip_model(folder)


def _empty(folder: Path) -> str:
    """Why a folder holds nothing to read."""
    try:
        found = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"{folder} cannot be looked through: {error.strerror}."
    configs = [name for name in (open_clip.CONFIG, hugging_face.CONFIG) if name in found]
    files = [name for name in found if name.endswith((".pt", ".pth", ".bin", ".safetensors"))]
    holds = ", ".join((configs + files or found)[:4]) or "nothing"
    if not configs:
        advice = f"It needs {open_clip.CONFIG} or {hugging_face.CONFIG}, or give the weights file itself"
    else:
        wanted = ", ".join((open_clip.WEIGHTS[0], open_clip.WEIGHTS[2], *hugging_face.WEIGHTS))
        advice = f"It lacks weights: {wanted}, or all shards of an index"
    return f"{folder} is a folder, but none of open_clip's or Hugging Face's: it holds {holds}. {advice}."


def _read(files: tuple[Path, ...], config: ModelConfig) -> RawWeights:
    archives = [read_weights(file) for file in files]
    tensors: dict[str, Tensor] = {}
    for archive in archives:
        twice = tensors.keys() & archive.tensors.keys()
        if twice:
            raise WeightsError(
                f"{files[0].parent}: {sorted(twice)[0]} is in two shards. Get the folder again."
            )
        tensors |= archive.tensors
    first = archives[0]
    kind = _KINDS[first.kind]
    if is_hugging_face(tensors):
        tensors = openai_layout(tensors)
        kind = f"{kind} in Hugging Face's key layout"
    elif config.custom_text:
        tensors = without_text_prefix(tensors)
    said = (*config.claims, *_own_words(first, files[0]))
    return RawWeights(
        tensors=tensors,
        kind=f"{config.kind}, {kind}" if config.kind else kind,
        files=files,
        config=replace(config, claims=said),
        metadata=first.metadata,
    )


def _own_words(archive: Archive, file: Path) -> tuple[MetadataClaim, ...]:
    """What a file says of itself: its metadata, or being OpenAI's own archive."""
    if archive.kind == "openai-archive":
        # One that calls GELU itself was made by someone else in the same way, from other images.
        if archive.metadata.get("activation") == "gelu":
            return (MetadataClaim(f"the code in {file.name}", "gelu"),)
        return (MetadataClaim(f"OpenAI's archive {file.name}", "quickgelu", OPENAI_MEAN, OPENAI_STD),)
    said = archive.metadata.get("activation")
    if said is not None and said not in ACTIVATIONS:
        raise WeightsError(
            f"the weights' metadata name the activation {said!r}; this version knows {', '.join(ACTIVATIONS)}"
        )
    given = {key: _three(archive.metadata[key]) for key in ("mean", "std") if key in archive.metadata}
    read = {key: triple(value, key, "the weights' metadata") for key, value in given.items()}
    if said is None and not read:
        return ()
    return (MetadataClaim(f"the metadata of {file.name}", said, read.get("mean"), read.get("std")),)


def _three(text: str) -> object:
    """Three numbers between commas, as a list; the text itself where it is something else."""
    try:
        numbers = [float(part) for part in text.strip("()[] ").split(",")]
    except ValueError:
        return text
    return numbers if len(numbers) == 3 else text

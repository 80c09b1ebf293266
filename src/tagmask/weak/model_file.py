"""Save and load WeakCLIP models: this package's format and the authors' layout.

This package's format is safetensors: the trained part (and CLIP, if it was trained too), with the class
names, the settings and a fingerprint of the CLIP in the header. The authors' format is a torch.save file
with all weights, under these names:

    backbone.*         the image tower and the adapter (fpn1 to fpn4)      here: vision.*, pyramid.*
    text_encoder.*     the text tower, 13 position rows                    text.*
    context_decoder.*  the co-attention                                    matching.*
    neck.*             the feature pyramid                                 fpn.*
    decode_head.*      the head                                            decode_head.*
    contexts, gamma, beta
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from torch import Tensor

from tagmask.checks import check_choice
from tagmask.clip.archives import read_weights
from tagmask.clip.finite import check_finite
from tagmask.clip.load import Clip
from tagmask.clip.model import ACTIVATIONS, Text, Vision, fold_quick_gelu
from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.dense.prompts import split_names
from tagmask.errors import InputError, WeightsError
from tagmask.files import write_bytes
from tagmask.printable import short_repr, shortened
from tagmask.strict_json import json_text
from tagmask.weak.fitting import misfits
from tagmask.weak.model import WeakClip
from tagmask.weak.model_settings import WeakSettings
from tagmask.weak.trunk import name_ids

__all__ = ["load", "load_published", "published_tensors", "save", "start_from_published"]

_FORMAT: Final = "tagmask weakclip 1"
_PUBLISHED: Final = (
    ("vision.", "backbone."),
    ("pyramid.", "backbone."),
    ("text.", "text_encoder."),
    ("matching.", "context_decoder."),
    ("fpn.", "neck."),
    ("decode_head.", "decode_head."),
)
_COUNTER: Final = "num_batches_tracked"
"""Unused by batch norms with a fixed momentum, so it is optional in files."""


def save(model: WeakClip, path: str | os.PathLike[str]) -> None:
    """Write a model in this package's format, atomically.

    A frozen CLIP's weights are left out, unless they are the model's own; `load` takes the CLIP separately.

    Raises:
        OutputError: the file cannot be written.
    """
    included = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not _is_clip(name) or not model.clip_frozen or model.has_own_clip
    }
    header = {
        "format": _FORMAT,
        "words": json_text(model.words),
        "ids": json_text(model.ids.tolist()),
        "settings": json_text(asdict(model.settings)),
        "clip": _fingerprint(model.vision, model.text),
        "pixels": json_text([model.mean, model.std]),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in included.items()}
    write_bytes(path, safetensors.torch.save(tensors, header))


def load(path: str | os.PathLike[str], clip: Clip) -> WeakClip:
    """Load a model that `save` wrote, in evaluation mode, on the CLIP's device.

    Args:
        path: model file.
        clip: the CLIP that it was trained on, in any precision.

    Raises:
        WeightsError: no such file, another format, another CLIP, or missing, unexpected or misshapen tensors.
    """
    archive = read_weights(Path(path))
    if archive.metadata.get("format") != _FORMAT:
        found = short_repr(archive.metadata.get("format"))
        raise WeightsError(
            f"{path} is not a WeakCLIP file of this package (format {found}). "
            "Use load_published for the authors' files."
        )
    words, ids, settings = _header(path, archive.metadata)
    if not 0 <= int(ids.min()) <= int(ids.max()) < clip.geometry.vocab:
        raise WeightsError(f"{path} has an invalid header: ids outside the vocabulary. Save it again.")
    has_clip = any(_is_clip(name) for name in archive.tensors)
    shape, mlp = clip.geometry, ACTIVATIONS[clip.activation]

    def build() -> WeakClip:
        return WeakClip(Vision(shape, mlp), Text(shape, mlp), shape, ids, settings, words)

    _check_fit(
        str(path),
        archive.tensors,
        build,
        lambda name: name if has_clip or not _is_clip(name) else None,
    )
    model = WeakClip.of(clip, ids, settings)
    model.words = words
    if not has_clip and archive.metadata.get("clip") != _fingerprint(model.vision, model.text):
        raise WeightsError(
            f"{path} was trained on another CLIP than {clip.name}. Give the weights that it was trained on."
        )
    tensors = archive.tensors
    if has_clip and clip.activation == "quickgelu" and clip.precision != "float32":
        tensors = _folded(tensors, build)
    model.load_state_dict(tensors, strict=False)
    return model.eval()


def _folded(tensors: Mapping[str, Tensor], build: Callable[[], WeakClip]) -> dict[str, Tensor]:
    """Fold QuickGELU's factors into CLIP's weights, as `clip.load` does in a lower precision."""
    with torch.device("meta"):
        model = build()
    model.load_state_dict({name: x.clone() for name, x in tensors.items()}, strict=False, assign=True)
    for tower in (model.vision, model.text):
        fold_quick_gelu(tower)
    return {name: x for name, x in model.state_dict().items() if name in tensors}


def load_published(
    path: str | os.PathLike[str],
    words: Sequence[str] | Callable[[int], Sequence[str]],
    settings: WeakSettings | None = None,
    *,
    activation: str = "quickgelu",
) -> WeakClip:
    """Load a checkpoint in the authors' layout, with CLIP, in float32, in evaluation mode, on the CPU.

    Args:
        path: a torch.save file with the tensors at the top level or under "state_dict"; only tensors are
            read, no code runs.
        words: class names in the order of training, one for each channel of the last convolution; or a
            function that gives them for the number of channels.
        settings: as trained; the sizes of co-attention, FPN, head, contexts and position table are always
            read from the tensors.
        activation: of CLIP's MLPs.

    Raises:
        WeightsError: no such file, another layout, or missing, unexpected or misshapen tensors.
        InputError: the number of words differs from the number of classes, or an unknown activation.
    """
    check_choice("activation", activation, tuple(ACTIVATIONS))
    archive = read_weights(Path(path))
    named = _without_counters(archive.tensors)
    geometry, fitted = _read_sizes(str(path), named, settings or WeakSettings())
    if callable(words):
        words = words(len(named["decode_head.conv_seg.weight"]))
    names = split_names(list(words)).classes
    _check_classes(str(path), named, len(names))
    ids = name_ids(names)
    if ids.shape[1] + fitted.contexts > geometry.context:
        raise InputError(
            f"{path} has {geometry.context} position rows for texts, but the names need "
            f"{ids.shape[1] + fitted.contexts}. Give the names that it was trained with."
        )
    mlp = ACTIVATIONS[activation]

    def build() -> WeakClip:
        return WeakClip(Vision(geometry, mlp), Text(geometry, mlp), geometry, ids, fitted, names)

    _check_fit(str(path), named, build, lambda name: None if name.endswith(_COUNTER) else _published(name))
    model = build()
    own_names = {_published(name): name for name in model.state_dict()}
    model.load_state_dict({own_names[name]: tensor for name, tensor in named.items()}, strict=False)
    return model.eval()


def start_from_published(model: WeakClip, path: str | os.PathLike[str]) -> None:
    """Replace all weights of a model, CLIP's included, by those of a checkpoint in the authors' layout.

    The authors' training moves CLIP's weights a little, so the file's belong to its other weights: the model
    keeps them, and `save` writes them. Text position rows that the file lacks keep their values.

    Args:
        model: of the file's sizes, with its class names.
        path: as for `load_published`.

    Raises:
        WeightsError: no such file, another layout, or missing, unexpected or misshapen tensors; the model is
            unchanged.
        InputError: another number of classes than the model's.
    """
    named = _without_counters(read_weights(Path(path)).tensors)
    _read_sizes(str(path), named, model.settings)
    _check_classes(str(path), named, len(model.words))
    state = model.state_dict()
    rows = "text_encoder.positional_embedding"
    others = state["text.positional_embedding"][len(named[rows]) :].cpu()
    if others.shape[1] == named[rows].shape[1]:
        named[rows] = torch.cat([named[rows].to(others.dtype), others])
    own_names = {_published(name): name for name in state if not name.endswith(_COUNTER)}
    _check_same(str(path), named, {name: state[own] for name, own in own_names.items()})
    model.load_state_dict({own_names[name]: tensor for name, tensor in named.items()}, strict=False)
    model.has_own_clip = True


def published_tensors(model: WeakClip) -> dict[str, Tensor]:
    """All tensors of a model under the authors' names, with only the text position rows in use.

    Raises:
        InputError: the model lacks parts of the authors' layout, or its CLIP is not in float32.
    """
    if model.matching is None or model.settings.decoder != "guided":
        raise InputError(
            "The authors' layout needs co-attention and a guided decoder. This model lacks one of them."
        )
    if model.vision.proj.dtype != torch.float32:
        raise InputError(
            "The authors' layout is float32. Build the model from a CLIP with precision='float32'."
        )
    tensors = {_published(name): tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    rows = model.ids.shape[1] + model.settings.contexts
    tensors["text_encoder.positional_embedding"] = tensors["text_encoder.positional_embedding"][:rows].clone()
    return tensors


def _check_classes(path: str, tensors: Mapping[str, Tensor], words: int) -> None:
    classes = len(tensors["decode_head.conv_seg.weight"])
    if words != classes:
        raise InputError(
            f"{path} has {classes} classes, but {words} words are given. Give one word per class."
        )


def _is_clip(name: str) -> bool:
    return name.startswith(("vision.", "text."))


def _published(name: str) -> str:
    for ours, theirs in _PUBLISHED:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}


def _fingerprint(vision: Vision, text: Text) -> str:
    """Hash of the tensors that are float32 in every precision, without the resizable position tables."""
    digest = hashlib.sha256()
    for tower in (vision, text):
        for name, tensor in sorted(tower.state_dict().items()):
            if "ln_" in name or name == "class_embedding":
                digest.update(f"{name} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _header(
    path: str | os.PathLike[str], metadata: Mapping[str, str]
) -> tuple[tuple[str, ...], Tensor, WeakSettings]:
    try:
        words = tuple(str(word) for word in json.loads(metadata["words"]))
        ids = torch.tensor(json.loads(metadata["ids"]), dtype=torch.int64)
        raw = json.loads(metadata["settings"])
        unknown = set(raw) - {field.name for field in fields(WeakSettings)}
        if unknown:
            raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
        taps = raw.pop("taps", None)
        settings = WeakSettings(**raw, taps=None if taps is None else tuple(taps))
        if ids.ndim != 2 or len(ids) != len(words) or not ids.numel():
            raise ValueError(f"{len(words)} words and ids of shape {tuple(ids.shape)}")
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = shortened(f"{type(error).__name__}: {error}", 200)
        raise WeightsError(f"{path} has an invalid header ({reason}). Save it again.") from error
    return words, ids, settings


def _check_fit(
    path: str,
    given: Mapping[str, Tensor],
    build: Callable[[], WeakClip],
    expected: Callable[[str], str | None],
) -> None:
    """Check a file's tensors against a model that is built without memory for its weights.

    Args:
        path: the file, for messages.
        given: its tensors.
        build: builds the model.
        expected: the name in the file of a tensor of the model; None if it is not in the file.

    Raises:
        WeightsError: settings that build no model; tensors that are missing, unexpected, misshapen or not
            finite.
    """
    try:
        with torch.device("meta"):
            state = build().state_dict()
    except InputError as error:
        raise WeightsError(f"{path} describes no model: {error}") from error
    _check_same(
        path, given, {name: tensor for own, tensor in state.items() if (name := expected(own)) is not None}
    )


def _check_same(path: str, given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check a file's tensors against those of a model.

    Raises:
        WeightsError: tensors that are missing, unexpected, misshapen or not finite.
    """
    problems = misfits(expected, given, {name for name in expected if name.endswith(_COUNTER)})
    if problems:
        raise WeightsError(
            f"{path} does not fit the model: {problems}. Give the words and settings of its training."
        )
    check_finite(given, Path(path))


def _read_sizes(
    path: str, tensors: Mapping[str, Tensor], settings: WeakSettings
) -> tuple[Geometry, WeakSettings]:
    """Read the model's sizes from tensors in the authors' layout."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != dimensions:
            raise WeightsError(
                f"{path} is not in the authors' layout: {name} is missing or does not have "
                f"{dimensions} dimensions. Expected backbone.*, text_encoder.*, context_decoder.*, "
                "neck.* and decode_head.*."
            )
        return tuple(tensors[name].shape)

    def layers(prefix: str) -> int:
        return sum(name.startswith(prefix) and name.endswith(".ln_1.weight") for name in tensors)

    width, _, _, patch = shape("backbone.conv1.weight", 4)
    rows, _ = shape("backbone.positional_embedding", 2)
    context, text_width = shape("text_encoder.positional_embedding", 2)
    side = round((rows - 1) ** 0.5)
    shape("decode_head.conv_seg.weight", 4)
    geometry = Geometry(
        vision_width=width,
        vision_layers=layers("backbone."),
        vision_heads=width // HEAD_WIDTH,
        patch=patch,
        grid=side,
        embed=shape("backbone.proj", 2)[1],
        text_width=text_width,
        text_layers=layers("text_encoder."),
        text_heads=text_width // HEAD_WIDTH,
        vocab=shape("text_encoder.token_embedding.weight", 2)[0],
        context=context,
    )
    branch = "context_decoder.decoder."
    if min(width, text_width) < HEAD_WIDTH or width % HEAD_WIDTH or text_width % HEAD_WIDTH or patch < 1:
        raise WeightsError(
            f"{path} has towers of width {width} and {text_width} and patches of {patch} pixels. "
            f"Expected multiples of {HEAD_WIDTH}, and a patch."
        )
    try:
        return geometry, replace(
            settings,
            contexts=shape("contexts", 3)[1],
            stored_side=side,
            co_attention=True,
            decoder="guided",
            match_width=shape("context_decoder.memory_proj.1.weight", 2)[0],
            match_layers=sum(name.startswith(branch) and name.endswith("norm1.weight") for name in tensors),
            fpn_width=shape("neck.lateral_convs.0.conv.weight", 4)[0],
            head_width=shape("decode_head.scale_heads.0.0.conv.weight", 4)[0],
        )
    except InputError as error:
        raise WeightsError(f"{path} describes no model: {error}") from error

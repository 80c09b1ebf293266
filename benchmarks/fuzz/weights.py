"""Kinds of weights: a tiny CLIP in each format, its configs, a student and what training leaves."""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.fuzz.archives import (
    mutate_safetensors,
    mutate_zip,
    safetensors_bytes,
    sorted_safetensors,
)
from benchmarks.fuzz.kind import Believed, Kind
from benchmarks.fuzz.mutate import Mutator, mutate_bytes
from benchmarks.fuzz.pickles import mutate_pickle
from benchmarks.fuzz.values import mutate_json
from tagmask.clip.load import Clip, load
from tagmask.clip.model import ACTIVATIONS, Text, Vision
from tagmask.clip.state_dict import Geometry
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, load_student, save_student
from tagmask.weak.training_state import read_training_state

__all__ = ["WEIGHTS", "all_finite", "made", "miniature"]


def all_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise `Believed` if a tensor has NaN or infinite values."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Believed(f"{name} has NaN or infinite values")


def made(write: Callable[[Path], None]) -> bytes:
    """Return the bytes that a function writes to a file."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


@cache
def _tiny_clip(*, whole: bool) -> dict[str, Tensor]:
    """A CLIP of one block per tower; `whole`: with CLIP's vocabulary, so that it loads (6 MB).

    Without it almost all checks are reached, on a file of a third of a megabyte.
    """
    vocabulary = 49408 if whole else 11
    shape = Geometry(64, 1, 1, 16, 2, 8, 64, 1, 1, vocabulary, 77)
    torch.manual_seed(0)
    towers = {"visual.": Vision(shape, ACTIVATIONS["gelu"]), "": Text(shape, ACTIVATIONS["gelu"])}
    tensors = {
        prefix + name: (0.02 * torch.randn(tensor.shape)).half()
        for prefix, tower in towers.items()
        for name, tensor in tower.state_dict().items()
    }
    return {**tensors, "logit_scale": torch.tensor(4.6)}


def _stretched_clip() -> dict[str, Tensor]:
    """A CLIP of 1.5 GB in a file of a few kilobytes: each tensor repeats one number (its strides are 0)."""
    shape = Geometry(1024, 12, 16, 16, 2, 8, 1024, 12, 16, 49408, 77)
    with torch.device("meta"):
        towers = {"visual.": Vision(shape, ACTIVATIONS["gelu"]), "": Text(shape, ACTIVATIONS["gelu"])}
    tensors = {
        prefix + name: torch.zeros(1).expand(tensor.shape)
        for prefix, tower in towers.items()
        for name, tensor in tower.state_dict().items()
    }
    return {**tensors, "logit_scale": torch.tensor(4.6)}


def _torch_saved(content: object, *, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _scripted(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the TorchScript archive of a tree of modules with these tensors."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *parts, last = name.split(".")
        at = root
        for part in parts:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        at.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript; such archives are published
        torch.jit.save(torch.jit.script(root), file)
    return file.getvalue()


@cache
def miniature() -> Clip:
    """The bundled model. Loading it imports what loading needs: once, here, and not in every child."""
    return load("miniature", device="cpu")


def _read_clip(path: Path) -> int:
    clip = load(path, device="cpu")
    all_finite({**clip.vision.state_dict(), **clip.text.state_dict()})
    if not all(map(_is_finite, (clip.logit_scale, *clip.mean, *clip.std))) or min(clip.std) <= 0:
        raise Believed(f"scale, mean or std are {clip.logit_scale}, {clip.mean}, {clip.std}")
    return 0


def _is_finite(number: float) -> bool:
    return abs(number) < float("inf")


def _clip_kind(
    write: Callable[[dict[str, Tensor]], bytes], *mutators: Mutator, stretched: bool = True
) -> Kind:
    miniature()
    # Most inputs come from the small file, which is quicker to damage, write and read.
    small, whole = write(_tiny_clip(whole=False)), write(_tiny_clip(whole=True))
    samples = [whole, small, small, small, small]
    if stretched:
        samples.append(write(_stretched_clip()))
    return Kind(samples, _read_clip, mutators, "weights.pt")


def _safetensors_kind() -> Kind:
    return _clip_kind(
        lambda tensors: safetensors_bytes(tensors, {"activation": "gelu", "mean": "0.5,0.5,0.5"}),
        mutate_safetensors,
        stretched=False,  # the format has no strides
    )


def _torch_zip_kind() -> Kind:
    return _clip_kind(lambda tensors: _torch_saved({"state_dict": tensors}, zipped=True), mutate_zip)


def _torch_legacy_kind() -> Kind:
    return _clip_kind(
        lambda tensors: _torch_saved(tensors, zipped=False), mutate_pickle, mutate_pickle, mutate_bytes
    )


def _torchscript_kind() -> Kind:
    return _clip_kind(_scripted, mutate_zip)


def _config_kind() -> Kind:
    """The config of an open_clip folder, beside weights that fit it."""
    miniature()
    config = {
        "model_cfg": {
            "embed_dim": 8,
            "quick_gelu": False,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 64},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.26, 0.27], "interpolation": "bicubic"},
    }
    return Kind(
        (json.dumps(config).encode(),),
        lambda path: _read_clip(path.parent),
        (mutate_json,),
        "open_clip_config.json",
        {"open_clip_model.safetensors": safetensors_bytes(_tiny_clip(whole=True))},
    )


def _shards_kind() -> Kind:
    """The index of a Hugging Face folder's shards, beside one of them."""
    miniature()
    names = {f"text_model.encoder.layers.{i}.layer_norm1.weight": "model-00001.safetensors" for i in range(3)}
    index = {"metadata": {"total_size": 8}, "weight_map": names}
    towers = {
        "vision_config": {"hidden_size": 64, "image_size": 32, "patch_size": 16},
        "text_config": {"hidden_size": 64},
    }
    return Kind(
        (json.dumps(index).encode(),),
        lambda path: _read_clip(path.parent),
        (mutate_json,),
        "model.safetensors.index.json",
        {
            "config.json": json.dumps({"model_type": "clip", **towers}).encode(),
            "model-00001.safetensors": safetensors_bytes({name: torch.zeros(64) for name in names}),
        },
    )


# -- Students and training -----------------------------------------------------------------------------------


def _student_kind() -> Kind:
    torch.manual_seed(0)
    net = build_student("small", 3, width=8)
    trained = TrainedStudent(StudentCard("small", ("background", "cat", "dog"), True, {"width": 8}), net)

    def read(path: Path) -> int:
        student = load_student(path)
        all_finite(student.net.state_dict())
        card = student.card
        if not all(map(_is_finite, (*card.mean, *card.std))):
            raise Believed(f"mean and std are {card.mean}, {card.std}")
        with torch.no_grad():
            found = student.net(torch.zeros(1, 3, 64, 64))
        if not torch.isfinite(found).all():
            raise Believed("its scores of a black image are not finite")
        return 0

    content = sorted_safetensors(made(lambda path: save_student(path, trained)))
    return Kind((content,), read, (mutate_safetensors,), "student.safetensors")


def _checkpoint_kind() -> Kind:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4, 3, 3, 3)}
    # As `write_training_state` does; an optimiser would import torch's compiler, which takes seconds.
    optimiser = {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}]}
    state = {"step": 3, "model": net.state_dict(), "optimiser": optimiser}

    def read(path: Path) -> int:
        found = read_training_state(path)
        if found is not None:
            all_finite({name: value for name, value in found.model.items() if isinstance(value, Tensor)})
        return 0

    return Kind((_torch_saved(state, zipped=True),), read, (mutate_zip,), "checkpoint.pt")


WEIGHTS: Mapping[str, Callable[[], Kind]] = {
    "safetensors": _safetensors_kind,
    "torch-zip": _torch_zip_kind,
    "torch-legacy": _torch_legacy_kind,
    "torchscript": _torchscript_kind,
    "config": _config_kind,
    "shards": _shards_kind,
    "student": _student_kind,
    "checkpoint": _checkpoint_kind,
}
"""Weights and their configs, by name. Each makes its samples when it is called."""

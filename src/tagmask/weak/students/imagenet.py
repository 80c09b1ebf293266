"""ImageNet weights of WideResNet-38, under whichever names they were converted.

The published file (`ilsvrc-cls_rna-a1_cls1000`) is MXNet's; what is passed around are state dicts made of it.
Three ways of naming are known here:

    b3_1.conv_branch2a.weight, bn7.running_mean       the usual torch state dict; also behind any prefix
    b3_1_conv_branch2a_weight                         the same with underscores only
    arg:res3b1_branch2a_weight, aux:bn7_moving_mean   MXNet's, kept through a conversion
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tagmask.clip.archives import read_weights
from tagmask.errors import WeightsError
from tagmask.weak.students.resnet38 import ResNet38

__all__ = ["load_imagenet", "own_names"]

_TORCH = re.compile(r"(?:^|_)((?:conv1a|bn7|b[2-7](?:_\d)?_(?:bn|conv)_branch\w+?)_[a-z_]+)$")
_MXNET = re.compile(
    r"(?:(?:arg|aux):)?(?:(?P<alone>conv1a|bn7)|(?P<kind>res|bn)(?P<stage>[2-7])(?P<unit>a|b\d)_(?P<branch>branch\w+?))"
    r"_(?P<what>weight|gamma|beta|moving_mean|moving_var)"
)
_MXNET_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}


def load_imagenet(trunk: ResNet38, path: Path) -> None:
    """Give the trunk the weights of a file; everything else in the file (a classifier, a head) is left out.

    Args:
        trunk: changed in place, all of it or none of it.
        path: a file of torch.save or safetensors. Nothing in it is run.

    Raises:
        WeightsError: the file cannot be read, lacks a part of the trunk, or has it in another shape, twice,
            or with values that are not finite.
    """
    wanted = {
        name: tensor
        for name, tensor in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    tensors = read_weights(path).tensors
    found = own_names(tensors, path)
    missing = sorted(wanted.keys() - found.keys())
    if len(missing) == len(wanted):
        raise WeightsError(
            f"{path} holds no WideResNet-38: none of its {len(tensors)} names is like "
            f"b2.conv_branch2a.weight (it begins with {', '.join(list(tensors)[:3])}). "
            "Give ImageNet weights converted to a state dict."
        )
    if missing:
        raise WeightsError(
            f"{path} lacks {len(missing)} of the {len(wanted)} parts of WideResNet-38, as {missing[0]}. "
            "Get the file again, or convert it again."
        )
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise WeightsError(
                f"{path}: {name} has the shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}; "
                "these are weights of another width, or were turned over in conversion."
            )
        if not bool(torch.isfinite(found[name]).all()):
            raise WeightsError(f"{path}: {name} holds values that are not finite. Get the file again.")
    trunk.load_state_dict({name: found[name].float() for name in wanted}, strict=False)


def own_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors that belong to the trunk, by the trunk's own names.

    Raises:
        WeightsError: two tensors of the file are the same part.

    Example:
        >>> from pathlib import Path
        >>> list(own_names({"arg:res3b1_branch2a_weight": torch.ones(1)}, Path("file.pth")))
        ['b3_1.conv_branch2a.weight']
    """
    found: dict[str, Tensor] = {}
    for given, tensor in tensors.items():
        name = _own_name(given)
        if name is None:
            continue
        if name in found:
            raise WeightsError(
                f"{path} holds {name} twice, the second time as {given}. Save the trunk's weights alone."
            )
        found[name] = tensor
    return found


def _own_name(given: str) -> str | None:
    mxnet = _MXNET.fullmatch(given)
    if mxnet is not None:
        what = _MXNET_PARTS.get(mxnet["what"], mxnet["what"])
        if mxnet["alone"]:
            return f"{mxnet['alone']}.{what}"
        unit = "" if mxnet["unit"] == "a" else f"_{mxnet['unit'][1:]}"
        return (
            f"b{mxnet['stage']}{unit}.{'conv' if mxnet['kind'] == 'res' else 'bn'}_{mxnet['branch']}.{what}"
        )
    torch_name = _TORCH.search(given.replace(".", "_"))
    if torch_name is None:
        return None
    return _DOTS.sub(r".\1", _AFTER_BLOCK.sub(r"\1.\2", torch_name[1]))


_AFTER_BLOCK = re.compile(r"^(b[2-7](?:_\d)?)_(bn|conv)")
_DOTS = re.compile(r"_(weight|bias|running_mean|running_var|num_batches_tracked)$")

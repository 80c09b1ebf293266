"""Load ImageNet weights of WideResNet-38 under any of their known names.

The published file (`ilsvrc-cls_rna-a1_cls1000`) is in MXNet format; converted state dicts are in circulation.
Three naming schemes are supported:

    b3_1.conv_branch2a.weight, bn7.running_mean       the common torch state dict, with or without a prefix
    b3_1_conv_branch2a_weight                         the same with underscores only
    arg:res3b1_branch2a_weight, aux:bn7_moving_mean   MXNet's names, kept by a conversion
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tagmask.clip.archives import read_weights
from tagmask.clip.finite import check_finite
from tagmask.errors import WeightsError
from tagmask.printable import shortened
from tagmask.weak.students.resnet38 import ResNet38

__all__ = ["load_imagenet", "trunk_weights"]

_TORCH = re.compile(r"(?:^|_)((?:conv1a|bn7|b[2-7](?:_\d)?_(?:bn|conv)_branch\w+?)_[a-z_]+)$")
_MXNET = re.compile(
    r"(?:(?:arg|aux):)?(?:(?P<alone>conv1a|bn7)|(?P<kind>res|bn)(?P<stage>[2-7])(?P<unit>a|b\d)_(?P<branch>branch\w+?))"
    r"_(?P<what>weight|gamma|beta|moving_mean|moving_var)"
)
_MXNET_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}


def load_imagenet(trunk: ResNet38, path: Path) -> None:
    """Load the trunk's weights from a file; other weights in it (a classifier, a head) are ignored.

    Args:
        trunk: changed in place, completely or, after an error, not at all.
        path: a file of torch.save or safetensors; no code in it runs.

    Raises:
        WeightsError: the file cannot be read, or a weight of the trunk is missing, duplicated, of another
            shape, or not finite.
    """
    expected = {
        name: tensor
        for name, tensor in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    tensors = read_weights(path).tensors
    weights = trunk_weights(tensors, path)
    missing = sorted(expected.keys() - weights.keys())
    if len(missing) == len(expected):
        raise WeightsError(
            f"{path} is not a WideResNet-38: none of its {len(tensors)} names is like "
            f"b2.conv_branch2a.weight (it begins with {', '.join(map(shortened, list(tensors)[:3]))}). "
            "Give ImageNet weights converted to a state dict."
        )
    if missing:
        raise WeightsError(
            f"{path} lacks {len(missing)} of the {len(expected)} weights of WideResNet-38, such as "
            f"{missing[0]}. Download or convert the file again."
        )
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise WeightsError(
                f"{path}: {name} has the shape {tuple(weights[name].shape)}, not {tuple(tensor.shape)}. "
                "The network has another width, or the conversion transposed its weights."
            )
        if not weights[name].is_floating_point():
            raise WeightsError(
                f"{path}: {name} is {weights[name].dtype}, not floating point. Get another file."
            )
    check_finite({name: weights[name] for name in expected}, path)
    trunk.load_state_dict({name: weights[name].float() for name in expected}, strict=False)


def trunk_weights(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Select the trunk's tensors and rename them to the names of `ResNet38`.

    Raises:
        WeightsError: two tensors of the file have the same name in the trunk.

    Example:
        >>> from pathlib import Path
        >>> list(trunk_weights({"arg:res3b1_branch2a_weight": Tensor([1.0])}, Path("file.pth")))
        ['b3_1.conv_branch2a.weight']
    """
    weights: dict[str, Tensor] = {}
    for file_name, tensor in tensors.items():
        name = _trunk_name(file_name)
        if name is None:
            continue
        if name in weights:
            raise WeightsError(
                f"{path} has {name} twice, the second time as {shortened(file_name)}. "
                "Save only the trunk's weights."
            )
        weights[name] = tensor
    return weights


def _trunk_name(file_name: str) -> str | None:
    mxnet = _MXNET.fullmatch(file_name)
    if mxnet is not None:
        what = _MXNET_PARTS.get(mxnet["what"], mxnet["what"])
        if mxnet["alone"]:
            return f"{mxnet['alone']}.{what}"
        unit = "" if mxnet["unit"] == "a" else f"_{mxnet['unit'][1:]}"
        return (
            f"b{mxnet['stage']}{unit}.{'conv' if mxnet['kind'] == 'res' else 'bn'}_{mxnet['branch']}.{what}"
        )
    torch_name = _TORCH.search(file_name.replace(".", "_"))
    if torch_name is None:
        return None
    return _DOTS.sub(r".\1", _AFTER_BLOCK.sub(r"\1.\2", torch_name[1]))


_AFTER_BLOCK = re.compile(r"^(b[2-7](?:_\d)?)_(bn|conv)")
_DOTS = re.compile(r"_(weight|bias|running_mean|running_var|num_batches_tracked)$")

"""Remove what wrappers of models put into the names of tensors.

The wrappers:

    module.NAME        data-parallel and averaged models, which may be nested
    _orig_mod.NAME     compiled models, at any depth: visual._orig_mod.conv1.weight
    model.NAME, ...    a CLIP that is an attribute of a larger model, as in Lightning
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["only_clip", "without_wrappers"]

_COMPILED: Final = "_orig_mod"
_PARALLEL: Final = "module."
_SIGNS: Final = ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight")
"""Names of the patch embedding in OpenAI's and in Hugging Face's key layout."""


_AnyTensor = TypeVar("_AnyTensor")


def without_wrappers(tensors: Mapping[str, _AnyTensor], path: Path) -> dict[str, _AnyTensor]:
    """Remove the names of data-parallel, averaged and compiled wrappers.

    "module." is removed where most names begin with it; the others, such as the counter `n_averaged` of an
    averaged model, stay as they are.

    Raises:
        WeightsError: two tensors would have the same name.
    """
    named = {name: _without_compiled(name) for name in tensors}
    while 2 * sum(name.startswith(_PARALLEL) for name in named.values()) > len(named):
        named = {old: new.removeprefix(_PARALLEL) for old, new in named.items()}
    result: dict[str, _AnyTensor] = {}
    for old, new in named.items():
        if new in result:
            raise WeightsError(
                f"{path} holds {shortened(new)} twice, the second time as {shortened(old)}. "
                "Save one model's state_dict()."
            )
        result[new] = tensors[old]
    return result


def only_clip(tensors: dict[str, _AnyTensor], path: Path) -> dict[str, _AnyTensor]:
    """Select the CLIP in a larger model, by its own names; all tensors if it holds none.

    Raises:
        WeightsError: there are several, such as a student and its teacher.
    """
    if any(sign in tensors for sign in _SIGNS):
        return tensors
    prefixes = [name.removesuffix(sign) for name in tensors for sign in _SIGNS if name.endswith(f".{sign}")]
    if len(prefixes) > 1:
        shown = ", ".join(map(shortened, prefixes[:4]))
        raise WeightsError(f"{path} holds {len(prefixes)} CLIPs, under {shown}. Save one's state_dict().")
    if not prefixes:
        return tensors
    return {
        name.removeprefix(prefixes[0]): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefixes[0])
    }


def _without_compiled(name: str) -> str:
    if _COMPILED not in name:
        return name
    return ".".join(part for part in name.split(".") if part != _COMPILED)

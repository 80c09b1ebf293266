"""Hugging Face's and open_clip's other key layouts -> the names of OpenAI's, which `keys` describes.

Hugging Face's `CLIPModel` has the same numbers in another order:

    q_proj, k_proj, v_proj           one in_proj, stacked in this order
    visual_projection, text_...      weights of a linear layer: the transpose of OpenAI's matrices
    layer_norm1, mlp.fc1, ...        ln_1, mlp.c_fc, ...
    embeddings.position_ids          0, 1, 2, ...: left out
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from tagmask.errors import WeightsError

__all__ = ["is_hugging_face", "openai_layout", "without_text_prefix"]

_SAME: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # the layout's own spelling
        "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
        "vision_model.post_layernorm.weight": "visual.ln_post.weight",
        "vision_model.post_layernorm.bias": "visual.ln_post.bias",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
        "logit_scale": "logit_scale",
    }
)
_TURNED: Final[Mapping[str, str]] = MappingProxyType(
    {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
)
_TOWERS: Final[Mapping[str, str]] = MappingProxyType(
    {"vision_model": "visual.transformer", "text_model": "transformer"}
)
_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
)
_LAYER: Final = re.compile(r"(vision_model|text_model)\.encoder\.layers\.(\d{1,3})\.(.+)\.(weight|bias)")
_STACKED: Final = tuple(f"self_attn.{part}_proj" for part in "qkv")


def is_hugging_face(tensors: Mapping[str, Tensor]) -> bool:
    """Whether names are those of Hugging Face's `CLIPModel`."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in tensors)


def openai_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and rearrange the tensors of a Hugging Face `CLIPModel`; values and dtypes stay.

    Args:
        tensors: by Hugging Face's names.

    Returns:
        By OpenAI's names. What is missing here is missing there; `keys.clip_tensors` counts it.

    Raises:
        WeightsError: a tensor that a CLIPModel does not have, or q, k, v that do not belong together.
    """
    found: dict[str, Tensor] = {}
    stacks: dict[str, dict[str, Tensor]] = {}
    extra = []
    for name, tensor in tensors.items():
        if name.endswith(".position_ids"):
            continue
        layer = _LAYER.fullmatch(name)
        if name in _SAME:
            found[_SAME[name]] = tensor
        elif name in _TURNED:
            found[_TURNED[name]] = tensor.mT.contiguous() if tensor.ndim == 2 else tensor
        elif layer and layer[3] in _PARTS:
            found[f"{_block(layer)}.{_PARTS[layer[3]]}.{layer[4]}"] = tensor
        elif layer and layer[3] in _STACKED:
            stacks.setdefault(f"{_block(layer)}.attn.in_proj_{layer[4]}", {})[layer[3]] = tensor
        else:
            extra.append(name)
    if extra:
        raise WeightsError(
            f"The weights are in Hugging Face's key layout, but hold what a CLIPModel with ViT towers does "
            f"not have: {', '.join(extra[:4])} ({len(extra)} in all). This version reads CLIPModel only."
        )
    return found | {name: _stack(name, parts) for name, parts in stacks.items()}


def without_text_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the "text." that open_clip puts before the text tower's names where `custom_text` is set."""
    return {name.removeprefix("text."): tensor for name, tensor in tensors.items()}


def _block(layer: re.Match[str]) -> str:
    return f"{_TOWERS[layer[1]]}.resblocks.{layer[2]}"


def _stack(name: str, parts: Mapping[str, Tensor]) -> Tensor:
    missing = [part for part in _STACKED if part not in parts]
    if missing:
        raise WeightsError(
            f"{name} cannot be put together: {', '.join(missing)} missing. Get the file again."
        )
    shapes = {tuple(parts[part].shape) for part in _STACKED}
    if len(shapes) > 1:
        raise WeightsError(f"{name} cannot be put together: q, k and v have the shapes {sorted(shapes)}.")
    return torch.cat([parts[part] for part in _STACKED])

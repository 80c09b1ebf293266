"""Convert Hugging Face's key layout, and open_clip's custom text tower, to OpenAI's (see `state_dict`).

Hugging Face's `CLIPModel` holds the same values in another layout:

    q_proj, k_proj, v_proj           one in_proj, stacked in this order
    visual_projection, text_...      weights of a linear layer: the transpose of OpenAI's matrices
    layer_norm1, mlp.fc1, ...        ln_1, mlp.c_fc, ...
    embeddings.position_ids          0, 1, 2, ...: ignored
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from tagmask.clip.stored import StoredTensor, stacked, transposed
from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["is_hugging_face", "to_openai_layout", "without_text_prefix"]

_RENAMED: Final[Mapping[str, str]] = MappingProxyType(
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
_TRANSPOSED: Final[Mapping[str, str]] = MappingProxyType(
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

_AnyTensor = TypeVar("_AnyTensor")


def is_hugging_face(tensors: Mapping[str, object]) -> bool:
    """Whether the names are those of Hugging Face's `CLIPModel`."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in tensors)


def to_openai_layout(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Rename and rearrange the tensors of a Hugging Face `CLIPModel`; values and dtypes do not change.

    Args:
        tensors: by Hugging Face's names.

    Returns:
        Tensors by OpenAI's names. Missing tensors are reported later, by `state_dict.clip_tensors`.

    Raises:
        WeightsError: a tensor that a CLIPModel does not have, or q, k, v with a part missing or of another
            shape.
    """
    converted: dict[str, StoredTensor] = {}
    stacks: dict[str, dict[str, StoredTensor]] = {}
    extra = []
    for name, tensor in tensors.items():
        if name.endswith(".position_ids"):
            continue
        layer = _LAYER.fullmatch(name)
        if name in _RENAMED:
            converted[_RENAMED[name]] = tensor
        elif name in _TRANSPOSED:
            converted[_TRANSPOSED[name]] = transposed(tensor) if len(tensor.shape) == 2 else tensor
        elif layer and layer[3] in _PARTS:
            converted[f"{_block(layer)}.{_PARTS[layer[3]]}.{layer[4]}"] = tensor
        elif layer and layer[3] in _STACKED:
            stacks.setdefault(f"{_block(layer)}.attn.in_proj_{layer[4]}", {})[layer[3]] = tensor
        else:
            extra.append(name)
    if extra:
        raise WeightsError(
            "These weights are not a Hugging Face CLIPModel with ViT towers: unexpected tensors "
            f"{', '.join(map(shortened, extra[:4]))} ({len(extra)} in all). Only CLIPModel is supported."
        )
    return converted | {name: _stack(name, parts) for name, parts in stacks.items()}


def without_text_prefix(tensors: Mapping[str, _AnyTensor]) -> dict[str, _AnyTensor]:
    """Remove the "text." prefix that open_clip gives the text tower's names if `custom_text` is set."""
    return {name.removeprefix("text."): tensor for name, tensor in tensors.items()}


def _block(layer: re.Match[str]) -> str:
    return f"{_TOWERS[layer[1]]}.resblocks.{layer[2]}"


def _stack(name: str, parts: Mapping[str, StoredTensor]) -> StoredTensor:
    missing = [part for part in _STACKED if part not in parts]
    if missing:
        raise WeightsError(
            f"Cannot build {name}: {', '.join(missing)} missing. Download or copy the file again."
        )
    shapes = {parts[part].shape for part in _STACKED}
    if len(shapes) > 1 or () in shapes:
        raise WeightsError(
            f"Cannot build {name}: q, k and v have different shapes, or none: {sorted(shapes)}."
        )
    return stacked([parts[part] for part in _STACKED])

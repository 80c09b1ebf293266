"""Read open_clip's `open_clip_config.json`.

    {"model_cfg": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}, "preprocess_cfg": {"mean", "std"}}

open_clip's defaults: the exact GELU without `quick_gelu`, OpenAI's mean and std without `preprocess_cfg`.
open_clip's resize settings are ignored: each method here resizes images itself.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, triple
from tagmask.clip.model_config import ModelConfig, configured_sizes, read_json, refuse_unsupported, section
from tagmask.clip.state_dict import HEAD_WIDTH
from tagmask.errors import WeightsError
from tagmask.printable import short_repr

__all__ = ["CONFIG", "WEIGHTS", "read_open_clip_config"]

CONFIG: Final = "open_clip_config.json"
WEIGHTS: Final = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""open_clip's file names, in the order in which it tries them."""

_ANY: Final[tuple[object, ...]] = ()
_OFF: Final = (None, False, 0)
_BOTH_TOWERS: Final[dict[str, tuple[object, ...]]] = {
    "width": _ANY,
    "layers": _ANY,
    "mlp_ratio": (4,),
    "ls_init_value": (None,),
    "final_ln_after_pool": _OFF,
    "output_tokens": _ANY,
    "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}),
    "block_type": (None, "default"),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner"), _OFF),
    **dict.fromkeys(("scale_attn", "scale_fc"), _OFF),
}
_VISION: Final[Mapping[str, tuple[object, ...]]] = MappingProxyType(
    {
        **_BOTH_TOWERS,
        "head_width": (HEAD_WIDTH,),
        "patch_size": _ANY,
        "image_size": _ANY,
        "patch_dropout": _ANY,  # for training only
        "attentional_pool": _OFF,
        "attn_pooler_queries": _ANY,
        "attn_pooler_heads": _ANY,
        "no_ln_pre": _OFF,
        "pos_embed_type": ("learnable",),
        "pool_type": ("tok",),
        "timm_model_name": (None,),
        **dict.fromkeys(("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"), _ANY),
        **dict.fromkeys(("timm_drop", "timm_drop_path"), _ANY),
        "input_patchnorm": _OFF,
        "global_average_pool": _OFF,
    }
)
_TEXT: Final[Mapping[str, tuple[object, ...]]] = MappingProxyType(
    {
        **_BOTH_TOWERS,
        "heads": _ANY,
        "context_length": _ANY,
        "vocab_size": _ANY,
        "hf_tokenizer_name": (None, ""),
        "tokenizer_mode": (None,),
        "tokenizer_kwargs": (None, {}),
        "embed_cls": _OFF,
        "pad_id": (0,),
        "eos_id": _ANY,  # for other kinds of pooling only
        "no_causal_mask": _OFF,
        "pool_type": ("argmax",),
        "proj_bias": _OFF,
        "proj_type": ("linear",),
        "hf_model_name": (None, ""),
        **dict.fromkeys(("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"), _ANY),
    }
)
_MODEL: Final[Mapping[str, tuple[object, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("embed_dim", "vision_cfg", "text_cfg", "custom_text"), _ANY),
        "quick_gelu": (True, False),
        **dict.fromkeys(("cast_dtype", "init_logit_scale", "nonscalar_logit_scale", "output_dict"), _ANY),
        "init_logit_bias": (None,),
    }
)


def read_open_clip_config(folder: Path) -> ModelConfig:
    """Read and check `open_clip_config.json`.

    Raises:
        WeightsError: it cannot be read, or describes a model that is not supported.
    """
    path = folder / CONFIG
    config = read_json(path)
    by = str(path)
    model = section(config, "model_cfg", by) or config
    vision, text = section(model, "vision_cfg", by), section(model, "text_cfg", by)
    if not vision or not text:
        raise WeightsError(f"{path} does not describe both towers. Expected vision_cfg and text_cfg.")
    refuse_unsupported(model, _MODEL, CONFIG)
    refuse_unsupported(vision, _VISION, f"{CONFIG}, vision_cfg,")
    refuse_unsupported(text, _TEXT, f"{CONFIG}, text_cfg,")
    if isinstance(vision.get("layers"), list):
        raise WeightsError(
            f"{path} describes a CLIP ResNet, which has no patch tokens. Use a ViT-B or a ViT-L."
        )
    preprocess = section(config, "preprocess_cfg", by)
    if preprocess.get("mode", "RGB") != "RGB":
        raise WeightsError(
            f"{path} needs images of mode {short_repr(preprocess['mode'])}. Only RGB is supported."
        )
    claim = MetadataClaim(
        by=CONFIG,
        activation="quickgelu" if model.get("quick_gelu") else "gelu",
        mean=triple(preprocess["mean"], "mean", by) if "mean" in preprocess else OPENAI_MEAN,
        std=triple(preprocess["std"], "std", by) if "std" in preprocess else OPENAI_STD,
    )
    sizes, custom = _sizes(model, vision, text, by), bool(model.get("custom_text"))
    return ModelConfig((claim,), "open_clip folder", sizes, by, custom)


def _sizes(
    model: Mapping[str, object], vision: Mapping[str, object], text: Mapping[str, object], by: str
) -> dict[str, int]:
    """Return the configured sizes by the names of `Geometry`.

    The number of heads has a default here, since no tensor shows it.
    """
    sizes = {
        "embed": model.get("embed_dim"),
        "vision_width": vision.get("width"),
        "vision_layers": vision.get("layers"),
        "text_width": text.get("width"),
        "text_layers": text.get("layers"),
        "text_heads": text.get("heads", 8),
        "context": text.get("context_length"),
        "vocab": text.get("vocab_size"),
    }
    return configured_sizes(sizes, vision, by)

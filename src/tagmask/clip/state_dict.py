"""The state dict of a CLIP ViT: its tensors by the names of OpenAI and open_clip, and the sizes they imply.

visual.class_embedding                   (vision width,)
visual.conv1.weight                      (vision width, 3, patch, patch)
visual.positional_embedding              (grid * grid + 1, vision width)
visual.transformer.resblocks.N.*         one pre-norm block per N
visual.ln_pre.*, visual.ln_post.*        (vision width,)
visual.proj                              (vision width, embed)
token_embedding.weight                   (vocab, text width)
positional_embedding                     (context, text width)
transformer.resblocks.N.*                one block per N
ln_final.*                               (text width,)
text_projection                          (text width, embed)
logit_scale                              ()
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from types import MappingProxyType
from typing import Final, TypeVar

from torch import Tensor

from tagmask.clip.stored import StoredTensor
from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["HEAD_WIDTH", "Geometry", "clip_tensors", "geometry"]

HEAD_WIDTH: Final = 64
"""Width of an attention head. No tensor shows it; it is 64 in both towers of every supported CLIP."""

_OTHER_HEAD_WIDTHS: Final[Mapping[int, str]] = MappingProxyType(
    {1152: "SO400M", 1280: "H", 1408: "g", 1664: "bigG", 1792: "e"}
)
"""Widths of image towers whose heads are not 64 wide, with their names in open_clip."""

_IGNORED_NAMES: Final = frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"})
_TEXT_PREFIXES: Final = (
    "token_embedding.",
    "positional_embedding",
    "transformer.",
    "ln_final.",
    "text_projection",
)
_SUPPORTED: Final = "Only CLIP ViTs in the OpenAI / open_clip key layout are supported."

_Shape = tuple[int, ...]
_AnyTensor = TypeVar("_AnyTensor", Tensor, StoredTensor)


@dataclass(frozen=True)
class Geometry:
    """The sizes of a CLIP ViT, as read from its tensors."""

    vision_width: int
    vision_layers: int
    vision_heads: int
    """vision_width // 64."""
    patch: int
    """Side of a patch in pixels."""
    grid: int
    """Side of the positional embedding in patches; grid * patch is the side of the training images."""
    embed: int
    """Width of the shared image-text space."""
    text_width: int
    text_layers: int
    text_heads: int
    """text_width // 64."""
    vocab: int
    context: int
    """Rows of the text tower's positional embedding: the longest text in tokens."""


def clip_tensors(archive_tensors: Mapping[str, _AnyTensor]) -> dict[str, _AnyTensor]:
    """Select a CLIP ViT's tensors, and check that they are complete and consistent.

    Args:
        archive_tensors: by the names in the file. The sizes and the mask in OpenAI's archives are ignored,
            and so are tensors outside the two towers (of an optimiser or a head).

    Returns:
        Tensors by the names in the module's docstring, with the shapes given there and the file's floating
        dtypes. `logit_scale` may also have the shape (1,).

    Raises:
        WeightsError: another architecture or key layout, one tower only, missing or unexpected tensors in a
            tower, inconsistent shapes, or tensors that are not floating point.
    """
    tensors = {name: t for name, t in archive_tensors.items() if name.split(".")[-1] not in _IGNORED_NAMES}
    _refuse_other_models(tensors)
    names = _shapes(
        replace(
            _UNKNOWN,
            vision_layers=_layers(tensors, "visual.transformer."),
            text_layers=_layers(tensors, "transformer."),
        )
    )
    missing = [name for name in names if name not in tensors]
    if missing:
        raise WeightsError(
            f"Missing tensors of a CLIP ViT ({len(names)} expected): {_few(missing)}. "
            "Get the complete checkpoint."
        )
    towers = ("visual.", *_TEXT_PREFIXES)
    extra = [shortened(name) for name in tensors if name not in names and name.startswith(towers)]
    if extra:
        raise WeightsError(
            f"Unexpected tensors in the towers: {_few(extra)}. "
            f"Ignoring them would give wrong features. {_SUPPORTED}"
        )
    selected = {name: tensors[name] for name in names}
    _check(selected)
    return selected


def geometry(tensors: Mapping[str, Tensor | StoredTensor]) -> Geometry:
    """Read the sizes of a CLIP ViT from its tensors.

    Args:
        tensors: as returned by `clip_tensors`.

    Raises:
        WeightsError: a tensor that shows a size is missing or has the wrong number of dimensions, a width is
            not a multiple of 64 (or is known to have other heads), or the image tower's positional embedding
            is not one class token and a square grid.
    """
    vision_width, _, _, patch = _shape(tensors, "visual.conv1.weight", 4)
    rows, _ = _shape(tensors, "visual.positional_embedding", 2)
    _, embed = _shape(tensors, "visual.proj", 2)
    vocab, text_width = _shape(tensors, "token_embedding.weight", 2)
    context, _ = _shape(tensors, "positional_embedding", 2)
    if vision_width in _OTHER_HEAD_WIDTHS:
        raise WeightsError(
            f"The image tower has width {vision_width}, as open_clip's "
            f"ViT-{_OTHER_HEAD_WIDTHS[vision_width]}, whose heads are not {HEAD_WIDTH} wide. "
            "Use a ViT-B or a ViT-L."
        )
    for tower, width in (("image", vision_width), ("text", text_width)):
        if width < HEAD_WIDTH or width % HEAD_WIDTH:
            raise WeightsError(
                f"The {tower} tower has width {width}, which is not a multiple of {HEAD_WIDTH}. {_SUPPORTED}"
            )
    if min(patch, embed, context, vocab) < 1:
        raise WeightsError(
            f"A size is 0: patches of {patch} pixels, embeddings of {embed} values, {vocab} symbols, "
            f"texts of {context} tokens. {_SUPPORTED}"
        )
    grid = isqrt(max(rows - 1, 0))
    if grid < 1 or grid * grid + 1 != rows:
        raise WeightsError(
            f"visual.positional_embedding has {rows} rows. Expected one for the class token and a square "
            f"grid. {_SUPPORTED}"
        )
    return Geometry(
        vision_width=vision_width,
        vision_layers=_layers(tensors, "visual.transformer."),
        vision_heads=vision_width // HEAD_WIDTH,
        patch=patch,
        grid=grid,
        embed=embed,
        text_width=text_width,
        text_layers=_layers(tensors, "transformer."),
        text_heads=text_width // HEAD_WIDTH,
        vocab=vocab,
        context=context,
    )


_UNKNOWN: Final = Geometry(*[0] * 11)


def _refuse_other_models(tensors: Mapping[str, object]) -> None:
    """Name common architectures and key layouts that are not supported."""

    def any_start(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in tensors)

    vision, text = any_start("visual."), any_start("token_embedding.", "transformer.resblocks.")
    bare = not vision and {"conv1.weight", "class_embedding"} <= tensors.keys()
    if any_start("vision_model.", "text_model."):
        problem = "These weights are in the Hugging Face key layout (vision_model.*, text_model.*)."
    elif any_start("logit_bias", "visual.trunk.", "text."):
        problem = "These weights are a SigLIP or have custom towers (logit_bias, visual.trunk.*, text.*)."
    elif any_start("visual.layer1.", "visual.attnpool."):
        problem = (
            "These weights are a CLIP ResNet (visual.layer1.*, visual.attnpool.*), which has no patch tokens."
        )
    elif bare or (vision and not text):
        problem = "These weights are an image tower without its text tower; both are needed."
    elif text and not vision:
        problem = "These weights have no image tower (no name begins with visual.); both towers are needed."
    elif not vision:
        problem = (
            f"These weights are not a CLIP. Their tensors: {_few([shortened(name) for name in tensors])}."
        )
    else:
        return
    raise WeightsError(f"{problem} {_SUPPORTED}")


def _layers(tensors: Mapping[str, object], tower: str) -> int:
    """Return the largest block number of a tower plus one; at least 1."""
    # At most three digits, so that a crafted number cannot make the list of expected names huge.
    number = re.compile(re.escape(tower) + r"resblocks\.(\d{1,3})\.")
    return 1 + max((int(match[1]) for match in map(number.match, tensors) if match), default=0)


def _shapes(sizes: Geometry) -> dict[str, _Shape]:
    """List every tensor of a CLIP ViT with its shape."""
    vision, text, embed = sizes.vision_width, sizes.text_width, sizes.embed
    shapes: dict[str, _Shape] = {
        "visual.class_embedding": (vision,),
        "visual.conv1.weight": (vision, 3, sizes.patch, sizes.patch),
        "visual.positional_embedding": (sizes.grid**2 + 1, vision),
        "visual.proj": (vision, embed),
        "token_embedding.weight": (sizes.vocab, text),
        "positional_embedding": (sizes.context, text),
        "text_projection": (text, embed),
        "logit_scale": (),
    }
    for norm, width in (("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for tower, layers, width in (
        ("visual.transformer", sizes.vision_layers, vision),
        ("transformer", sizes.text_layers, text),
    ):
        for layer in range(layers):
            shapes |= {f"{tower}.resblocks.{layer}.{name}": shape for name, shape in _block(width).items()}
    return shapes


def _block(width: int) -> dict[str, _Shape]:
    return {
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }


def _check(tensors: Mapping[str, Tensor | StoredTensor]) -> None:
    """Check that all shapes agree with the sizes that `geometry` reads, and that all dtypes are floating."""
    shapes = _shapes(geometry(tensors))
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if tensors[name].shape != shape and (name, tensors[name].shape) != ("logit_scale", (1,))
    ]
    if wrong:
        raise WeightsError(f"Tensors with inconsistent shapes: {_few(wrong)}. {_SUPPORTED}")
    integers = [
        f"{name} is {tensors[name].dtype}" for name in shapes if not tensors[name].dtype.is_floating_point
    ]
    if integers:
        raise WeightsError(f"Tensors that are not floating point: {_few(integers)}. {_SUPPORTED}")


def _shape(tensors: Mapping[str, Tensor | StoredTensor], name: str, dimensions: int) -> _Shape:
    if name not in tensors:
        raise WeightsError(f"The tensor {name} is missing. Get the complete checkpoint.")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise WeightsError(f"{name} has shape {shape}. Expected {dimensions} dimensions. {_SUPPORTED}")
    return shape


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"{shown or 'none'} ({len(names)} in all)"

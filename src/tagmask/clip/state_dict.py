"""Which tensors a CLIP ViT has, under the names of OpenAI and open_clip, and what their shapes say.

visual.class_embedding                   (vision width,)
visual.conv1.weight                      (vision width, 3, patch, patch)
visual.positional_embedding              (grid * grid + 1, vision width)
visual.transformer.resblocks.N.*         one pre-norm block each
visual.ln_pre.*, visual.ln_post.*        (vision width,)
visual.proj                              (vision width, embed)
token_embedding.weight                   (vocab, text width)
positional_embedding                     (context, text width)
transformer.resblocks.N.*                one block each
ln_final.*                               (text width,)
text_projection                          (text width, embed)
logit_scale                              ()
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from types import MappingProxyType
from typing import Final

from torch import Tensor

from tagmask.errors import WeightsError

__all__ = ["HEAD_WIDTH", "Geometry", "clip_tensors", "geometry"]

HEAD_WIDTH: Final = 64
"""Width of an attention head. No tensor tells it; it is 64 in both towers of every CLIP read here."""

_OTHER_HEADS: Final[Mapping[int, str]] = MappingProxyType(
    {1152: "SO400M", 1280: "H", 1408: "g", 1664: "bigG", 1792: "e"}
)
"""Widths of the image towers whose heads are not 64 wide, with their names in open_clip."""

_DROPPED: Final = frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"})
_TEXT: Final = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
_WANTED: Final = "This version reads CLIP ViTs in the OpenAI / open_clip key layout."

_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """The sizes of a CLIP ViT, as its tensors tell them."""

    vision_width: int
    vision_layers: int
    vision_heads: int
    """vision_width // 64."""
    patch: int
    """Side of a patch in pixels."""
    grid: int
    """Side of the stored position table in patches; grid * patch is the side of the training images."""
    embed: int
    """Width of the space that images and texts share."""
    text_width: int
    text_layers: int
    text_heads: int
    """text_width // 64."""
    vocab: int
    context: int
    """Rows of the text's position table: the longest text in tokens."""


def clip_tensors(archive_tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick a CLIP ViT's tensors out of a file's, and make sure that all are there and fit each other.

    Args:
        archive_tensors: by the names in the file. Left out are the sizes and the mask that OpenAI's
            archives carry, and whatever lies outside the two towers (an optimiser's or a head's tensors).

    Returns:
        The names of the module docstring, shapes as there, dtypes as in the file (any floating type).
        `logit_scale` has no dimension, also where the file gives it one.

    Raises:
        WeightsError: another architecture or key layout, one tower only, tensors missing, tensors in a
            tower that this one does not have, or shapes and dtypes that do not fit.
    """
    tensors = {name: t for name, t in archive_tensors.items() if name.split(".")[-1] not in _DROPPED}
    _refuse_others(tensors)
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
            f"Missing among the {len(names)} tensors of a CLIP ViT: {_few(missing)}. "
            "Get the complete checkpoint."
        )
    extra = [name for name in tensors if name not in names and name.startswith(("visual.", *_TEXT))]
    if extra:
        raise WeightsError(
            f"The towers hold what a CLIP ViT does not have: {_few(extra)}. "
            f"Without them the features would be wrong. {_WANTED}"
        )
    picked = {name: tensors[name] for name in names}
    if picked["logit_scale"].shape == (1,):
        picked["logit_scale"] = picked["logit_scale"].reshape(())
    _check(picked)
    return picked


def geometry(tensors: Mapping[str, Tensor]) -> Geometry:
    """Read the sizes of a CLIP ViT off its tensors.

    Args:
        tensors: as `clip_tensors` gives them.

    Raises:
        WeightsError: a tensor that tells a size is missing or has another number of dimensions, a width
            is not a multiple of 64 (or is known to be split in other heads), or the position table is
            not one class row and a square.
    """
    vision_width, _, _, patch = _shape(tensors, "visual.conv1.weight", 4)
    rows, _ = _shape(tensors, "visual.positional_embedding", 2)
    _, embed = _shape(tensors, "visual.proj", 2)
    vocab, text_width = _shape(tensors, "token_embedding.weight", 2)
    context, _ = _shape(tensors, "positional_embedding", 2)
    if vision_width in _OTHER_HEADS:
        raise WeightsError(
            f"The image tower is as wide ({vision_width}) as open_clip's ViT-{_OTHER_HEADS[vision_width]}, "
            f"whose heads are not {HEAD_WIDTH} wide: it would be split wrongly. Use a ViT-B or a ViT-L."
        )
    for tower, width in (("image", vision_width), ("text", text_width)):
        if width < HEAD_WIDTH or width % HEAD_WIDTH:
            raise WeightsError(f"The {tower} tower has width {width}, no multiple of {HEAD_WIDTH}. {_WANTED}")
    grid = isqrt(max(rows - 1, 0))
    if grid < 1 or grid * grid + 1 != rows:
        raise WeightsError(
            f"visual.positional_embedding has {rows} rows; one for the class token and a square grid "
            f"were wanted. {_WANTED}"
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


def _refuse_others(tensors: Mapping[str, Tensor]) -> None:
    """Name the architectures and layouts that are often met and are not read."""

    def some(*starts: str) -> bool:
        return any(name.startswith(starts) for name in tensors)

    vision, text = some("visual."), some("token_embedding.", "transformer.resblocks.")
    if some("vision_model.", "text_model."):
        found = "These weights are in the Hugging Face key layout (vision_model.*, text_model.*)."
    elif some("logit_bias", "visual.trunk.", "text."):
        found = "These weights are a SigLIP or have custom towers (logit_bias, visual.trunk.*, text.*)."
    elif some("visual.layer1.", "visual.attnpool."):
        found = (
            "These weights are a CLIP ResNet (visual.layer1.*, visual.attnpool.*), which has no patch tokens."
        )
    elif vision and not text:
        found = "These weights are an image tower without its text tower; both are needed."
    elif text and not vision:
        found = "These weights have no image tower (no name begins with visual.); both towers are needed."
    elif not vision:
        found = f"These weights are not a CLIP; their tensors are {_few(list(tensors))}."
    else:
        return
    raise WeightsError(f"{found} {_WANTED}")


def _layers(tensors: Mapping[str, Tensor], tower: str) -> int:
    """Count the blocks of a tower up to the last one; a tower has one at least."""
    # Three digits: a crafted number must not make the list of expected names endless.
    number = re.compile(re.escape(tower) + r"resblocks\.(\d{1,3})\.")
    return 1 + max((int(found[1]) for found in map(number.match, tensors) if found), default=0)


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


def _check(tensors: Mapping[str, Tensor]) -> None:
    """Make sure that all shapes follow from the few that `geometry` reads, and that all are floating."""
    shapes = _shapes(geometry(tensors))
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if tensors[name].shape != shape
    ]
    if wrong:
        raise WeightsError(f"Tensors that do not fit the others: {_few(wrong)}. {_WANTED}")
    whole = [f"{name} is {tensors[name].dtype}" for name in shapes if not tensors[name].is_floating_point()]
    if whole:
        raise WeightsError(f"Tensors that are not floating point: {_few(whole)}. {_WANTED}")


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> _Shape:
    if name not in tensors:
        raise WeightsError(f"The tensor {name} is missing. Get the complete checkpoint.")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise WeightsError(f"{name} has shape {shape}; {dimensions} dimensions were wanted. {_WANTED}")
    return shape


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"{shown or 'none'} ({len(names)} in all)"

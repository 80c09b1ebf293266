"""Settings of a WeakCLIP's parts; unset widths are derived from the CLIP."""

from dataclasses import dataclass, replace

from tagmask.checks import check_choice, check_number
from tagmask.clip.state_dict import Geometry
from tagmask.errors import InputError
from tagmask.method import BEHAVIOURS

__all__ = [
    "DECODERS",
    "FREEZES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MOST_CONTEXTS",
    "WeakSettings",
    "Widths",
    "widths_of",
]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

DECODERS = ("guided", "plain", "none")
FREEZES = ("paper", "repo", "none")
MOST_CONTEXTS = 64
_MOST_CHANNELS = 8192
_MOST_LAYERS = 64
_MOST_SIDE = 128

_TAPS = (4, 6, 8, 12)
"""The authors' numbers of blocks, of 12."""


@dataclass(frozen=True, slots=True)
class WeakSettings:
    """The parts of a WeakCLIP. The defaults are the authors', including the quirks of their code.

    Raises:
        InputError: a value out of range.
    """

    taps: tuple[int, ...] | None = None
    """Numbers of blocks after which the four feature maps are captured; None: 4, 6, 8 and 12 of 12 blocks,
    scaled to the tower's depth."""
    contexts: int = 8
    """Learnable context vectors before each class name; 0: plain names."""
    co_attention: bool = True
    """Update texts and pixels by cross-attention before comparing them."""
    match_width: int | None = None
    """Width of the co-attention; None: half the joint embedding width, 256 of 512."""
    match_heads: int = 4
    """Attention heads of the co-attention."""
    match_layers: int = 3
    """Layers of each of the two co-attention branches."""
    decoder: str = "guided"
    """"guided": feature pyramid and head, with the score map as extra input; "plain": without the score map;
    "none": the scores divided by `tau` are the logits, upsampled 4x."""
    fpn_width: int | None = None
    """Width of the feature pyramid; None: a third of the image tower's, 256 of 768."""
    head_width: int | None = None
    """Width of the head; None: `fpn_width`."""
    dropout: float = 0.1
    """In the co-attention and before the last convolution."""
    tau: float = 0.07
    """Temperature of the scores with `decoder="none"`."""
    drop_path: float = 0.1
    """Stochastic depth rate of the image tower's last block, rising linearly from 0 at the first; applies
    only if the tower is trained."""
    dead_layers: bool = True
    """As published, every layer of a co-attention branch gets the branch's input and only the last layer's
    output is used, so the others have no effect and learn nothing. False: chain the layers."""
    class_embedding_twice: bool = True
    """As published, the class embedding is added to the class token a second time with the positions."""
    drop_path_of: str = "tokens"
    """Unit of stochastic depth: "tokens", as published, drops one position in all images; or "samples"."""
    normalisation: str = "imagenet"
    """Mean and std of pixels: "imagenet", as published, or the "clip"'s."""
    stored_side: int | None = 32
    """As published, the position table is resized to this side when a model is built, and again for each
    image. None: keep the CLIP's table and resize it once for each image."""

    def __post_init__(self) -> None:
        check_choice("decoder", self.decoder, DECODERS)
        check_choice("drop_path_of", self.drop_path_of, ("tokens", "samples"))
        check_choice("normalisation", self.normalisation, ("imagenet", "clip"))
        for name in ("match_width", "fpn_width", "head_width"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, _MOST_CHANNELS, whole=True)
        if self.stored_side is not None:
            check_number("stored_side", self.stored_side, 1, _MOST_SIDE, whole=True)
        check_number("match_heads", self.match_heads, 1, _MOST_CHANNELS, whole=True)
        check_number("match_layers", self.match_layers, 1, _MOST_LAYERS, whole=True)
        check_number("contexts", self.contexts, 0, MOST_CONTEXTS, whole=True)
        check_number("tau", self.tau, 1e-4, 1e4)
        for name in ("dropout", "drop_path"):
            check_number(name, getattr(self, name), 0, 0.9)
        for tap in self.taps or ():
            check_number("taps", tap, 1, whole=True)
        if self.taps is not None and (len(self.taps) != 4 or sorted(self.taps) != list(self.taps)):
            raise InputError(
                f"taps are {self.taps}. Give four ascending numbers of blocks, as in (4, 6, 8, 12)."
            )

    def as_(self, how: str) -> "WeakSettings":
        """Copy with the authors' five quirks all on ("published", "printed") or all off ("corrected").

        Raises:
            InputError: none of the three.

        Example:
            >>> WeakSettings().as_("corrected").dead_layers
            False
        """
        check_choice("as_", how, BEHAVIOURS)
        published = how != "corrected"
        return replace(
            self,
            dead_layers=published,
            class_embedding_twice=published,
            drop_path_of="tokens" if published else "samples",
            normalisation="imagenet" if published else "clip",
            stored_side=32 if published else None,
        )


@dataclass(frozen=True, slots=True)
class Widths:
    """Resolved capture depths and widths."""

    taps: tuple[int, ...]
    match: int
    fpn: int
    head: int


def widths_of(settings: WeakSettings, geometry: Geometry) -> Widths:
    """Resolve unset widths and capture depths from the CLIP's sizes.

    Raises:
        InputError: taps beyond the tower's blocks, or a co-attention width not divisible by its heads.

    Source:
        WeakCLIP (Zhu et al., IJCV 2024), as coded by the authors, for ViT-B/16; other sizes are scaled.
    """
    layers = geometry.vision_layers
    taps = settings.taps or tuple(max(1, round(layers * tap / 12)) for tap in _TAPS)
    if not 1 <= taps[0] <= taps[-1] <= layers:
        raise InputError(f"taps are {taps}, but the image tower has {layers} blocks. Give 1 to {layers}.")
    match = settings.match_width or max(geometry.embed // 2, settings.match_heads)
    if match % settings.match_heads:
        raise InputError(
            f"match_width {match} is not divisible by match_heads {settings.match_heads}. Give a multiple."
        )
    fpn = settings.fpn_width or max(8 * round(geometry.vision_width / 24), 8)
    return Widths(taps, match, fpn, settings.head_width or fpn)

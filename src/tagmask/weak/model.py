r"""WeakCLIP: a frozen CLIP, and the small part that is trained to turn seeds into masks.

image --tower--> four maps --pyramid--> four sizes ----------------+
             \-> all tokens V --+                                   +--> FPN, head --> logits
names, contexts --text tower--> T --co-attention--> S = cosine(V', T')

Zhu et al., "WeakCLIP: Adapting CLIP for Weakly-Supervised Semantic Segmentation", IJCV 2024.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.checks import check_choice
from tagmask.clip.load import OPENAI_MEAN, OPENAI_STD, Clip
from tagmask.clip.model import Text, Vision
from tagmask.clip.state_dict import Geometry
from tagmask.dense.positions import bilinear
from tagmask.dense.prompts import split_names
from tagmask.errors import InputError
from tagmask.types import Pixels
from tagmask.weak.decoder import Fpn, SemanticHead
from tagmask.weak.matching import CoAttention, cosines
from tagmask.weak.model_settings import FREEZES, IMAGENET_MEAN, IMAGENET_STD, WeakSettings, widths_of
from tagmask.weak.pyramid import Pyramid
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.trunk import Trunk, check_length, contextual_texts, extract_trunk_features, name_ids

__all__ = ["ParameterCounts", "WeakClip", "WeakClipOutput"]

Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class WeakClipOutput:
    """What the model says of a batch."""

    logits: Float[Tensor, "b k _ _"]
    """At a quarter of the image's size (four cells a patch)."""
    scores: Float[Tensor, "b k gh gw"]
    """Cosines of patches and classes, -1..1, before any temperature."""


class ParameterCounts(NamedTuple):
    """Numbers of parameters."""

    trainable: int
    total: int


class WeakClip(nn.Module):
    """A CLIP with a text-guided decoder; `WeakClip.of` makes one from a loaded CLIP.

    Args:
        vision: the CLIP's image tower; it becomes part of the model and is changed.
        text: the CLIP's text tower; likewise.
        geometry: of the CLIP.
        ids: tokens of the class names, one row a class, as `trunk.name_ids` gives them.
        settings: of the parts.
        words: what the classes are called.
        mean: of pixels in 0..1, which settings may replace by ImageNet's.
        std: likewise.

    CLIP is fixed at first: it runs without gradients and as in evaluation. `parameter_groups` is where that
    is changed.
    """

    ids: Tensor

    def __init__(
        self,
        vision: Vision,
        text: Text,
        geometry: Geometry,
        ids: Int[Tensor, "k n"],
        settings: WeakSettings,
        words: Sequence[str] = (),
        mean: Triple = OPENAI_MEAN,
        std: Triple = OPENAI_STD,
    ) -> None:
        super().__init__()
        classes = len(ids)
        if not 1 <= classes <= 254 or len(words) not in (0, classes):
            raise InputError(f"got {classes} rows of ids and {len(words)} words; give as many, from 1 to 254")
        widths = widths_of(settings, geometry)
        if not ids.is_meta:
            check_length(ids, settings.contexts, len(text.positional_embedding))
        self.settings, self.geometry = settings, geometry
        self.words = tuple(words) or tuple(f"class {index}" for index in range(classes))
        self.taps = widths.taps
        imagenet = settings.normalisation == "imagenet"
        self.mean: Triple = IMAGENET_MEAN if imagenet else (255 * mean[0], 255 * mean[1], 255 * mean[2])
        """Of pixels in 0..255."""
        self.std: Triple = IMAGENET_STD if imagenet else (255 * std[0], 255 * std[1], 255 * std[2])
        self.precision = "float32"
        """Of all matrix products in evaluation; training takes that of the autocast around it."""
        self.vision, self.text = vision, text
        self.register_buffer("ids", ids.clone(), persistent=False)
        width, embed = geometry.vision_width, geometry.embed
        self.pyramid: Pyramid | None = None
        self.fpn: Fpn | None = None
        self.decode_head: SemanticHead | None = None
        self.matching: CoAttention | None = None
        if settings.decoder != "none":
            self.pyramid = Pyramid(width)
            self.fpn = Fpn(width, classes if settings.decoder == "guided" else 0, widths.fpn)
            self.decode_head = SemanticHead(widths.fpn, widths.head, classes, settings.dropout)
        if settings.co_attention:
            self.matching = CoAttention(
                embed,
                widths.match,
                settings.match_heads,
                settings.match_layers,
                settings.dropout,
                dead_layers=settings.dead_layers,
            )
            self.gamma = nn.Parameter(torch.full((embed,), 0.1))
            self.beta = nn.Parameter(torch.full((embed,), 0.1))
        self.contexts = nn.Parameter(torch.empty(1, settings.contexts, geometry.text_width))
        # A spread of 1 is as published, though token embeddings have one of about 0.02.
        if settings.contexts:
            nn.init.trunc_normal_(self.contexts, std=1.0, a=-2.0, b=2.0)
        self._known_texts: tuple[tuple[object, ...], Tensor] | None = None
        self._fit_positions()
        for tower in (vision, text):
            tower.requires_grad_(False).eval()

    @classmethod
    def of(
        cls,
        clip: Clip,
        classes: Int[Tensor, "k n"] | Sequence[str],
        settings: WeakSettings | None = None,
        as_: str | None = None,
        *,
        seed: int = 0,
    ) -> "WeakClip":
        """A model on a loaded CLIP, whose weights are copied.

        Args:
            clip: its precision is the model's in evaluation; to train CLIP itself or to write the authors'
                layout, load it in float32.
            classes: names, of which a "dog, puppy" is called by its first; or ids, one row a class.
            settings: left out, the authors'.
            as_: "published" or "corrected" sets the authors' oddities all on or all off, whatever the
                settings say.
            seed: of the weights that are not CLIP's; the global generators are not touched.

        Raises:
            InputError: settings that do not fit the CLIP, no classes, or more than 254.

        Example:
            >>> import tagmask
            >>> model = WeakClip.of(tagmask.load("miniature"), ["grass", "dog"], as_="corrected").eval()
            >>> model(torch.zeros(1, 3, 64, 96)).logits.shape
            torch.Size([1, 2, 16, 24])
        """
        settings = settings or WeakSettings()
        settings = settings if as_ is None else settings.as_(as_)
        if isinstance(classes, Tensor):
            words: tuple[str, ...] = ()
            ids = classes.cpu()
        else:
            words = split_names(list(classes)).classes
            ids = name_ids(words)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            towers = deepcopy(clip.vision), deepcopy(clip.text)
            model = cls(*towers, clip.geometry, ids, settings, words, clip.mean, clip.std)
        model.precision = clip.precision
        return model.to(clip.device)

    # -- Looking ---------------------------------------------------------------------------------------------

    def forward(self, pixels: Pixels) -> WeakClipOutput:
        """Logits and scores of a batch of equal sizes.

        Args:
            pixels: normalised as `normalise` does; rows and columns beyond whole patches are not seen.

        Raises:
            ShapeError: a side under one patch.
        """
        return self.head(self.features(pixels))

    def normalise(self, images: UInt8[Tensor, "b h w 3"] | UInt8[np.ndarray, "b h w 3"]) -> Pixels:
        """Upright RGB 0..255 to what the model wants, on its device."""
        given = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
        planes = given.to(self.contexts.device).permute(0, 3, 1, 2).float()
        mean, std = (planes.new_tensor(value)[:, None, None] for value in (self.mean, self.std))
        return (planes - mean) / std

    def features(self, pixels: Pixels) -> Trunk:
        """The image tower's part, which depends on nothing that is trained while CLIP is fixed."""
        settings = self.settings
        if self.clip_fixed:
            # Inference mode saves memory traffic; what is to meet gradients later must be copied out of it.
            with torch.inference_mode(), self._products():
                found = extract_trunk_features(
                    self.vision, pixels, self.taps, twice=settings.class_embedding_twice
                )
            if torch.is_inference_mode_enabled():
                return found
            first, second, third, fourth = (x.clone() for x in found.maps)
            return Trunk((first, second, third, fourth), found.memory.clone())
        with self._products():
            return extract_trunk_features(
                self.vision,
                pixels,
                self.taps,
                twice=settings.class_embedding_twice,
                drop=settings.drop_path if self.training else 0.0,
                drop_tokens=settings.drop_path_of == "tokens",
            )

    def head(self, trunk: Trunk, texts: Float[Tensor, "k e"] | None = None) -> WeakClipOutput:
        """The trained part.

        Args:
            trunk: from `features`, new or kept.
            texts: from `encode_texts`; left out, they are encoded, in evaluation only when they have changed.
        """
        if texts is None:
            texts = self.encode_texts()
        with self._products():
            scores = self._scores(trunk, texts)
            if self.pyramid is None or self.fpn is None or self.decode_head is None:
                size = (4 * trunk.grid[0], 4 * trunk.grid[1])
                logits = F.interpolate(scores / self.settings.tau, size=size, mode="bilinear")
            else:
                logits = self.decode_head(self.fpn(self.pyramid, trunk.maps, scores))
        return WeakClipOutput(logits.float(), scores)

    def encode_texts(self) -> Float[Tensor, "k e"]:
        """One vector a class, not normalised; without gradients it is remembered until weights change."""
        if torch.is_grad_enabled() and (self.contexts.requires_grad or not self.clip_fixed):
            return self._encode()
        state = self._text_state()
        if self._known_texts is None or self._known_texts[0] != state:
            with torch.no_grad():
                self._known_texts = (state, self._encode())
        return self._known_texts[1]

    # -- Training --------------------------------------------------------------------------------------------

    @property
    def clip_fixed(self) -> bool:
        """CLIP's weights are not trained: its image tower runs without gradients and in evaluation mode."""
        return not self.vision.proj.requires_grad

    def parameter_groups(self, freeze: str = "paper") -> list[ParameterGroup]:
        """What is trained, for an optimiser; sets `requires_grad` of every weight to just that.

        Args:
            freeze: "paper": CLIP is fixed, all else is trained. "repo", as the authors' program does:
                nothing is fixed, but CLIP and the adapter, which lies under its name there, have rate 0,
                which its schedule raises from 0 to the floor. "none": all is trained at the full rate.

        Returns:
            Groups that are not empty. One of factor 0 has rate floor + (0 - floor) * (1 + cos(pi t / T)) / 2
            under a cosine that falls to `floor`. Weights that have no effect (`dead_layers`) are in none.

        Raises:
            InputError: another name, or CLIP is to be trained and is not in float32.
        """
        check_choice("freeze", freeze, FREEZES)
        if freeze != "paper" and self.vision.proj.dtype != torch.float32:
            raise InputError(
                f"CLIP is to be trained but its weights are {self.vision.proj.dtype}; "
                "load it with precision='float32'"
            )
        idle = {id(parameter) for parameter in self.idle_parameters()}
        clip = [*self.vision.parameters(), *self.text.parameters()]
        adapter = list(self.pyramid.parameters()) if self.pyramid else []
        slow = [] if freeze == "paper" else clip if freeze == "none" else [*clip, *adapter]
        known = {id(parameter) for parameter in (*clip, *slow)}
        fast = [p for p in self.parameters() if id(p) not in known and id(p) not in idle and p.numel()]
        trained = {id(parameter) for parameter in (*slow, *fast)}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self.train(self.training)
        groups = [
            ParameterGroup("head", tuple(fast)),
            ParameterGroup("clip", tuple(slow), 1.0 if freeze == "none" else 0.0),
        ]
        return [group for group in groups if group.parameters]

    def idle_parameters(self) -> list[nn.Parameter]:
        """Weights without any effect on results, kept for the authors' layout."""
        return self.matching.idle() if self.matching else []

    def counts(self) -> ParameterCounts:
        """Parameters as the paper counts them.

        All but CLIP's are trainable, those without effect too; the text tower has as many position rows as
        are read.
        """
        total = sum(parameter.numel() for parameter in self.parameters())
        clip = sum(p.numel() for tower in (self.vision, self.text) for p in tower.parameters())
        rows = self.ids.shape[1] + self.settings.contexts
        spare = (self.text.positional_embedding.shape[0] - rows) * self.geometry.text_width
        return ParameterCounts(total - clip, total - spare)

    def train(self, mode: bool = True) -> "WeakClip":
        """As any module, but that a fixed CLIP stays in evaluation."""
        super().train(mode)
        if self.clip_fixed:
            self.vision.eval()
            self.text.eval()
        return self

    # -- Inside ----------------------------------------------------------------------------------------------

    def _scores(self, trunk: Trunk, texts: Float[Tensor, "k e"]) -> Float[Tensor, "b k gh gw"]:
        memory = trunk.memory
        asked = texts.expand(len(trunk), -1, -1)
        if self.matching is not None:
            text_diff, vis_diff = self.matching(asked, memory)
            asked = asked + self.gamma * text_diff
            memory = memory + self.beta * vis_diff
        return cosines(memory[:, 1:], asked, trunk.grid)

    def _encode(self) -> Float[Tensor, "k e"]:
        with self._products():
            return contextual_texts(self.text, self.ids, self.contexts)

    def _text_state(self) -> tuple[object, ...]:
        weights = [self.contexts, *self.text.parameters()]
        versions = tuple(-1 if x.is_inference() else x._version for x in weights)
        return (self.precision, *versions, *(x.data_ptr() for x in weights))

    @contextmanager
    def _products(self) -> Iterator[None]:
        """The model's own precision in evaluation; in training whatever the caller has set."""
        device = self.contexts.device.type
        if self.training or self.precision == "float32":
            yield
            return
        with torch.autocast(device, dtype=getattr(torch, self.precision)):
            yield

    @torch.no_grad()
    def _fit_positions(self) -> None:
        """Give the position table the side that the settings ask for."""
        side = self.settings.stored_side
        table = self.vision.positional_embedding
        if side is not None and len(table) != 1 + side * side:
            fitted = (
                table.new_empty(1 + side * side, table.shape[1])
                if table.is_meta
                else bilinear(table, (side, side))
            )
            self.vision.positional_embedding = nn.Parameter(fitted)

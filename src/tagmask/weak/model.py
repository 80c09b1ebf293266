r"""WeakCLIP: a frozen CLIP with a small trained decoder that learns masks from seeds.

image --tower--> four maps --pyramid--> four scales ---------------+
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
from tagmask.clip.finite import check_computed
from tagmask.clip.load import OPENAI_MEAN, OPENAI_STD, Clip
from tagmask.clip.model import Text, Vision
from tagmask.clip.packed import can_pack, pack_blocks
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
    """The model's output for a batch."""

    logits: Float[Tensor, "b k _ _"]
    """At 4 gh x 4 gw: a quarter of the image's size for patches of 16."""
    scores: Float[Tensor, "b k gh gw"]
    """Cosine similarity of patches and classes, -1..1, without temperature."""


class ParameterCounts(NamedTuple):
    """Numbers of parameters."""

    trainable: int
    total: int


class WeakClip(nn.Module):
    """A CLIP with a text-guided decoder; `WeakClip.of` builds one from a loaded CLIP.

    CLIP is frozen at first: it runs without gradients and in evaluation mode. `parameter_groups` changes
    that.

    Args:
        vision: the CLIP's image tower; it becomes part of the model and is modified.
        text: the CLIP's text tower; likewise.
        geometry: of the CLIP.
        ids: token ids of the class names, one row per class, from `trunk.name_ids`.
        settings: of the model's parts.
        words: class names.
        mean: of pixels in 0..1; `settings.normalisation` may replace it by ImageNet's.
        std: likewise.
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
            raise InputError(
                f"Got {classes} rows of ids and {len(words)} words. Give one row per word, from 1 to 254."
            )
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
        """Of matrix products in evaluation mode; in training mode the caller's autocast applies."""
        self.has_own_clip = False
        """CLIP's weights are no longer those of the CLIP that the model was built from."""
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
        # std 1 as published, although token embeddings have a std of about 0.02.
        if settings.contexts:
            nn.init.trunc_normal_(self.contexts, std=1.0, a=-2.0, b=2.0)
        self._cached_texts: tuple[tuple[object, ...], Tensor] | None = None
        self._packed_tower: tuple[tuple[object, ...], Vision] | None = None
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
        """Build a model from a loaded CLIP, whose weights are copied.

        Args:
            clip: its precision becomes the model's in evaluation mode; to train CLIP itself or to write the
                authors' layout, load it in float32.
            classes: class names, of which "dog, puppy" is named by its first; or token ids, one row per
                class.
            settings: default: the authors'.
            as_: "published" or "corrected" switches all of the authors' quirks on or off and overrides
                `settings`; "printed" is "published".
            seed: for the weights that are not CLIP's; the global generators are not touched.

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

    # -- Inference -------------------------------------------------------------------------------------------

    def forward(self, pixels: Pixels) -> WeakClipOutput:
        """Compute logits and scores of a batch of images of one size.

        Args:
            pixels: normalised by `normalise`; rows and columns beyond whole patches are ignored.

        Raises:
            ShapeError: a side shorter than one patch.
        """
        return self.head(self.features(pixels))

    def normalise(self, images: UInt8[Tensor, "b h w 3"] | UInt8[np.ndarray, "b h w 3"]) -> Pixels:
        """Normalise upright RGB 0..255 for the model, on its device."""
        tensor = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
        planes = tensor.to(self.contexts.device).permute(0, 3, 1, 2).float()
        mean, std = (planes.new_tensor(value)[:, None, None] for value in (self.mean, self.std))
        return (planes - mean) / std

    def features(self, pixels: Pixels) -> Trunk:
        """Extract the image tower's features; while CLIP is frozen they do not change in training."""
        settings = self.settings
        if self.clip_frozen:
            # Inference mode saves memory traffic; tensors needed for gradients must be cloned outside it.
            with torch.inference_mode(), self._autocast():
                trunk = extract_trunk_features(
                    self._frozen_tower(), pixels, self.taps, twice=settings.class_embedding_twice
                )
            if torch.is_inference_mode_enabled():
                return trunk
            first, second, third, fourth = (x.clone(memory_format=torch.channels_last) for x in trunk.maps)
            return Trunk((first, second, third, fourth), trunk.memory.clone())
        with self._autocast():
            return extract_trunk_features(
                self.vision,
                pixels,
                self.taps,
                twice=settings.class_embedding_twice,
                drop=settings.drop_path if self.training else 0.0,
                drop_tokens=settings.drop_path_of == "tokens",
            )

    def head(self, trunk: Trunk, texts: Float[Tensor, "k e"] | None = None) -> WeakClipOutput:
        """Run the trained part on the image tower's features.

        Args:
            trunk: from `features`, new or cached.
            texts: from `encode_texts`, which is the default.

        Raises:
            WeightsError: in evaluation mode, the scores are NaN or infinite.
        """
        if texts is None:
            texts = self.encode_texts()
        with self._autocast():
            scores = self._scores(trunk, texts)
            if self.pyramid is None or self.fpn is None or self.decode_head is None:
                size = (4 * trunk.grid[0], 4 * trunk.grid[1])
                logits = F.interpolate(scores / self.settings.tau, size=size, mode="bilinear")
            else:
                logits = self.decode_head(self.fpn(self.pyramid, trunk.maps, scores))
        if not self.training:  # training reports it as its loss
            check_computed(logits, "The model's scores")
        return WeakClipOutput(logits.float(), scores)

    def encode_texts(self) -> Float[Tensor, "k e"]:
        """Encode the class names: one vector per class, not normalised.

        Without gradients the result is cached until the weights change.
        """
        if torch.is_grad_enabled() and (self.contexts.requires_grad or not self.clip_frozen):
            return self._encode()
        state = (self.precision, *_state([self.contexts, *self.text.parameters()]))
        if self._cached_texts is None or self._cached_texts[0] != state:
            # Not an inference tensor, even if the caller is in inference mode: training may use it next.
            with torch.inference_mode(False), torch.no_grad():
                self._cached_texts = (state, self._encode())
        return self._cached_texts[1]

    # -- Training --------------------------------------------------------------------------------------------

    @property
    def clip_frozen(self) -> bool:
        """Whether CLIP is frozen: its image tower then runs without gradients and in evaluation mode."""
        return not self.vision.proj.requires_grad

    def parameter_groups(self, freeze: str = "paper") -> list[ParameterGroup]:
        """Parameter groups for an optimiser; sets `requires_grad` of every parameter accordingly.

        Args:
            freeze: "paper": CLIP is frozen, all else is trained. "repo", as coded by the authors: nothing is
                frozen, but CLIP and the adapter (part of the image backbone in their code) have learning
                rate 0, which the schedule raises to its floor. "none": all is trained at the full rate.

        Returns:
            The groups that are not empty. A group of factor 0 has the learning rate
            floor + (0 - floor) * (1 + cos(pi t / T)) / 2 under a cosine schedule with `floor`. Parameters
            without any effect (`dead_layers`) are in no group.

        Raises:
            InputError: an unknown `freeze`, or CLIP should be trained and is not in float32.
        """
        check_choice("freeze", freeze, FREEZES)
        if freeze != "paper" and self.vision.proj.dtype != torch.float32:
            raise InputError(
                f"Training CLIP needs float32 weights, but they are {self.vision.proj.dtype}. "
                "Load it with precision='float32'."
            )
        unused = {id(parameter) for parameter in self.unused_parameters()}
        clip = [*self.vision.parameters(), *self.text.parameters()]
        adapter = list(self.pyramid.parameters()) if self.pyramid else []
        backbone = [] if freeze == "paper" else clip if freeze == "none" else [*clip, *adapter]
        not_head = {id(parameter) for parameter in (*clip, *backbone)}
        head = [p for p in self.parameters() if id(p) not in not_head and id(p) not in unused and p.numel()]
        trained = {id(parameter) for parameter in (*backbone, *head)}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self.train(self.training)
        groups = [
            ParameterGroup("head", tuple(head)),
            ParameterGroup("clip", tuple(backbone), 1.0 if freeze == "none" else 0.0),
        ]
        return [group for group in groups if group.parameters]

    def unused_parameters(self) -> list[nn.Parameter]:
        """Parameters without any effect on the output, kept for the authors' layout."""
        return self.matching.unused_parameters() if self.matching else []

    def counts(self) -> ParameterCounts:
        """Count parameters as the paper does.

        All except CLIP's count as trainable, also those without effect; of the text tower's position rows
        only those in use count.
        """
        total = sum(parameter.numel() for parameter in self.parameters())
        clip = sum(p.numel() for tower in (self.vision, self.text) for p in tower.parameters())
        rows = self.ids.shape[1] + self.settings.contexts
        unused = (self.text.positional_embedding.shape[0] - rows) * self.geometry.text_width
        return ParameterCounts(total - clip, total - unused)

    def train(self, mode: bool = True) -> "WeakClip":
        """Set training or evaluation mode; a frozen CLIP stays in evaluation mode."""
        super().train(mode)
        if self.clip_frozen:
            self.vision.eval()
            self.text.eval()
        return self

    # -- Internals -------------------------------------------------------------------------------------------

    def _scores(self, trunk: Trunk, texts: Float[Tensor, "k e"]) -> Float[Tensor, "b k gh gw"]:
        memory = trunk.memory
        texts = texts.expand(len(trunk), -1, -1)
        if self.matching is not None:
            text_diff, vis_diff = self.matching(texts, memory)
            texts = texts + self.gamma * text_diff
            memory = memory + self.beta * vis_diff
        return cosines(memory[:, 1:], texts, trunk.grid)

    def _encode(self) -> Float[Tensor, "k e"]:
        with self._autocast():
            return contextual_texts(self.text, self.ids, self.contexts)

    def _frozen_tower(self) -> Vision:
        """The image tower, or, where that is faster, a copy of it whose weights are packed.

        The copy is no part of the module: what counts, saves or trains weights needs the plain ones.
        """
        if not can_pack(self.vision.blocks[0].mlp.c_fc.weight):
            return self.vision
        state = _state(list(self.vision.parameters()))
        if self._packed_tower is None or self._packed_tower[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                tower = deepcopy(self.vision)
                pack_blocks(tower)
            self._packed_tower = (state, tower)
        return self._packed_tower[1]

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        """Autocast to the model's precision in evaluation mode; in training mode the caller's applies."""
        device = self.contexts.device.type
        if self.training or self.precision == "float32":
            yield
            return
        with torch.autocast(device, dtype=getattr(torch, self.precision)):
            yield

    @torch.no_grad()
    def _fit_positions(self) -> None:
        """Resize the position table to `settings.stored_side`."""
        side = self.settings.stored_side
        table = self.vision.positional_embedding
        if side is not None and len(table) != 1 + side * side:
            fitted = (
                table.new_empty(1 + side * side, table.shape[1])
                if table.is_meta
                else bilinear(table, (side, side))
            )
            self.vision.positional_embedding = nn.Parameter(fitted)


def _state(weights: Sequence[Tensor]) -> tuple[object, ...]:
    """What changes if any of these weights does."""
    versions = tuple(-1 if x.is_inference() else x._version for x in weights)
    return (*versions, *(x.data_ptr() for x in weights))

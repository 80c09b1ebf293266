"""Region proposals by SAM or SAM 2 from transformers: masks of a grid of points, without doubles.

    A. Kirillov et al. "Segment Anything", ICCV 2023.
    N. Ravi et al. "SAM 2: Segment Anything in Images and Videos", ICLR 2025.

Each point of a grid gives three masks. Kept are those whose predicted IoU and whose stability (the overlap of
the mask at a higher and at a lower threshold) are high; of masks whose boxes overlap much, the one of the
highest predicted IoU.

Only the two networks come from transformers: the image processor of SAM 2 needs torchvision, which tagmask
does not. Departures from the authors' mask generators: stability and boxes are taken on the network's own
grid of 256 x 256, and only masks that are kept are enlarged, one by one, so that memory does not grow with
their number; there are no crops, and small holes and islands stay.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import PIL.Image
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_installed, check_number
from tagmask.clip.download import Progress
from tagmask.clip.finite import check_finite
from tagmask.clip.hardware import choose_device
from tagmask.errors import InputError, WeightsError
from tagmask.files import file_hash
from tagmask.printable import shortened
from tagmask.proposals.sam_files import CONFIG, model_folder, weight_files
from tagmask.proposals.source import ProposalSource
from tagmask.reading import read_text
from tagmask.regions.proposals import ProposalBuilder, Proposals
from tagmask.strict_json import parse_json
from tagmask.types import Image, Size

__all__ = ["SamProposals", "SamSettings"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images, as both networks were trained with."""
_POINTS: Final = 64
"""Points that the mask decoder handles at once."""
_KINDS: Final = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
"""Class in transformers by the model type in `config.json`. Published SAM 2 folders are of sam2_video."""


@dataclass(frozen=True, kw_only=True)
class SamSettings:
    """Which masks are kept; the defaults are the authors'."""

    points_per_side: int = 32
    """Points of the grid along each side of the image."""
    lowest_iou: float | None = None
    """Lowest IoU that the network predicts for a mask, 0..1; None: 0.88 for SAM, 0.8 for SAM 2."""
    lowest_stability: float = 0.95
    """Lowest IoU of the mask at a logit of `stability_offset` with that at its negative."""
    stability_offset: float = 1.0
    box_iou: float = 0.7
    """Of two masks whose boxes have a greater IoU, one is left out."""

    def __post_init__(self) -> None:
        check_number("points_per_side", self.points_per_side, 1, 256, whole=True)
        if self.lowest_iou is not None:
            check_number("lowest_iou", self.lowest_iou, 0, 1)
        check_number("lowest_stability", self.lowest_stability, 0, 1)
        check_number("stability_offset", self.stability_offset, 0)
        check_number("box_iou", self.box_iou, 0, 1)


@dataclass(frozen=True)
class _Frame:
    """How an image lies in the network's square input."""

    side: int
    inner: Size
    """(h, w) of the scaled image, at the top left; the rest is 0."""

    def grid(self, cells: int) -> Size:
        """Its (h, w) on a grid of so many cells a side."""
        height, width = (max(1, -(-edge * cells // self.side)) for edge in self.inner)
        return height, width


class SamProposals(ProposalSource):
    """Proposes regions with a SAM or a SAM 2. One image at a time, however many threads call.

    Args:
        model: a folder with `config.json` and safetensors, or a name on the Hugging Face hub.
        settings: which masks are kept.
        device: "auto" or a torch device name.
        progress: called as bytes of the model arrive.

    Raises:
        InputError: transformers is not installed, or an unknown device.
        WeightsError: there is no such model, or it is no SAM or SAM 2.
    """

    def __init__(
        self,
        model: str,
        settings: SamSettings | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        check_installed("Region proposals of SAM", "sam")
        self._settings, self._device = settings or SamSettings(), choose_device(device)
        self._folder = model_folder(model, progress)
        self._type = _model_type(self._folder)
        self._lock = threading.Lock()

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """The hash of config and weights, and the settings."""
        files = [self._folder / CONFIG, *weight_files(self._folder)]
        settings = {**asdict(self._settings), "lowest_iou": self._lowest_iou}
        return {"model": self._type, "weights": f"sha256 {file_hash(*files)[:16]}", **settings}

    def missing(self, names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
        """Return nothing: it has regions for every image."""
        return []

    def of(self, name: PurePosixPath, image: Image) -> Proposals:
        """See `ProposalSource`."""
        return self(image)

    @torch.inference_mode()
    def __call__(self, image: Image) -> Proposals:
        """Propose regions of an image.

        Args:
            image: upright RGB.

        Raises:
            WeightsError: the weights cannot be loaded.
        """
        with self._lock:
            pixels, frame = prepared(image, self._side, square=self._square)
            logits, ious = self._candidates(pixels.to(self._device), frame)
            kept = best_apart(boxes_of(logits > 0), ious, self._settings.box_iou)
            builder = ProposalBuilder((image.shape[0], image.shape[1]))
            for number in kept:
                enlarged = full_size(logits[number], frame, builder.size)
                builder.add_mask((enlarged > 0).cpu().numpy())
        return builder.proposals()

    @property
    def _lowest_iou(self) -> float:
        default = 0.88 if self._type == "sam" else 0.8
        return default if self._settings.lowest_iou is None else self._settings.lowest_iou

    @property
    def _square(self) -> bool:
        """SAM 2 stretches images to a square; SAM keeps their shape, and pads them."""
        return self._type != "sam"

    @property
    def _side(self) -> int:
        side = self._net.config.prompt_encoder_config.image_size
        return int(side if isinstance(side, int) else side[0])

    @cached_property
    def _net(self) -> Any:  # noqa: ANN401 - a class of transformers
        return load_network(self._folder, _KINDS[self._type], self._device)

    def _candidates(
        self, pixels: Float[Tensor, "1 3 side side"], frame: _Frame
    ) -> tuple[Float[Tensor, "k gh gw"], Float[Tensor, " k"]]:
        """Logits of the masks that pass the thresholds, over the image's part of the grid, and their IoUs."""
        net, settings = self._net, self._settings
        embeddings = net.get_image_embeddings(pixels)
        masks, ious = [], []
        for points in point_grid(settings.points_per_side, frame).to(self._device).split(_POINTS):
            found = net(
                image_embeddings=embeddings,
                input_points=points[None, :, None],
                input_labels=torch.ones(1, len(points), 1, dtype=torch.int, device=self._device),
                multimask_output=True,
            )
            predicted = found.iou_scores.float().flatten()
            grid = frame.grid(found.pred_masks.shape[-1])
            logits = found.pred_masks.float().flatten(0, 2)[:, : grid[0], : grid[1]]
            fits = predicted >= self._lowest_iou
            logits, predicted = logits[fits], predicted[fits]
            fits = stability(logits, settings.stability_offset) >= settings.lowest_stability
            masks.append(logits[fits])
            ious.append(predicted[fits])
        return torch.cat(masks), torch.cat(ious)


def prepared(image: Image, side: int, *, square: bool) -> tuple[Float[Tensor, "1 3 side side"], _Frame]:
    """Scale an image to the network's input and normalise it.

    Args:
        image: upright RGB.
        side: of the input, in pixels.
        square: stretch it to the square; else its longer side fills the input, and the rest is 0.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    inner = (side, side) if square else (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
    scaled = PIL.Image.fromarray(image).resize(inner[::-1], PIL.Image.Resampling.BILINEAR)
    values = (np.asarray(scaled, np.float32) / 255 - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    pixels = torch.zeros(1, 3, side, side)
    pixels[0, :, : inner[0], : inner[1]] = torch.from_numpy(values).permute(2, 0, 1)
    return pixels, _Frame(side, inner)


def point_grid(count: int, frame: _Frame) -> Float[Tensor, "points 2"]:
    """Return (x, y) of a regular grid of points in the scaled image, row by row, none at its edge.

    Example:
        >>> point_grid(2, _Frame(8, (4, 8))).tolist()
        [[2.0, 1.0], [6.0, 1.0], [2.0, 3.0], [6.0, 3.0]]
    """
    steps = (torch.arange(count) + 0.5) / count
    y, x = torch.meshgrid(steps * frame.inner[0], steps * frame.inner[1], indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def stability(logits: Float[Tensor, "k gh gw"], offset: float) -> Float[Tensor, " k"]:
    """IoU of each mask at a logit of `offset` with that at -`offset`; 0 for masks that are empty at both.

    Example:
        >>> stability(torch.tensor([[[3.0, 2.0, 0.5, -2.0]]]), 1.0)
        tensor([0.6667])
    """
    inside, outside = ((logits > each).sum(dim=(1, 2)) for each in (offset, -offset))
    return inside / outside.clamp(min=1)


def boxes_of(masks: Bool[Tensor, "k gh gw"]) -> Int[Tensor, "k 4"]:
    """Box around each mask: (x0, y0, x1, y1), half-open; all 0 for empty masks.

    Example:
        >>> boxes_of(torch.tensor([[[False, True, True]], [[False, False, False]]])).tolist()
        [[1, 0, 3, 1], [0, 0, 0, 0]]
    """
    edges = []
    for side in (masks.any(dim=1), masks.any(dim=2)):  # columns, rows
        length = side.shape[1]
        edges.append(side.int().argmax(dim=1))
        edges.append((length - side.int().flip(1).argmax(dim=1)) * side.any(dim=1))
    return torch.stack([edges[0], edges[2], edges[1], edges[3]], dim=1)


def best_apart(boxes: Int[Tensor, "k 4"], scores: Float[Tensor, " k"], most: float) -> list[int]:
    """Return the boxes, best first, without those that overlap a better one by more than an IoU of `most`.

    Empty boxes are left out.

    Example:
        >>> best_apart(torch.tensor([[0, 0, 4, 4], [0, 0, 4, 3]]), torch.tensor([0.5, 0.9]), 0.7)
        [1]
    """
    x0, y0, x1, y1 = boxes.double().cpu().numpy().T
    areas = (x1 - x0) * (y1 - y0)
    order = np.argsort(-scores.double().cpu().numpy(), kind="stable")
    order, kept = order[areas[order] > 0], []
    while len(order):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        width = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest])
        height = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest])
        shared = width.clip(0) * height.clip(0)
        order = rest[shared <= most * (areas[best] + areas[rest] - shared)]
    return kept


def full_size(logits: Float[Tensor, "gh gw"], frame: _Frame, size: Size) -> Float[Tensor, "h w"]:
    """Enlarge one mask's logits to the image's (h, w); bilinear."""
    if frame.inner == (frame.side, frame.side):
        whole = logits[None, None]
    else:  # by way of the scaled image, whose edge may lie inside a cell
        cell = max(1, round(frame.side / max(logits.shape)))
        grown = F.interpolate(logits[None, None], scale_factor=float(cell), mode="bilinear")
        whole = grown[:, :, : frame.inner[0], : frame.inner[1]]
    return F.interpolate(whole, size, mode="bilinear")[0, 0]


def load_network(folder: Path, kind: str, device: torch.device) -> Any:  # noqa: ANN401
    """Load a network of transformers; nothing is downloaded, and no code in the folder runs.

    Args:
        folder: with `config.json` and safetensors.
        kind: its class.
        device: where it is to compute.

    Raises:
        WeightsError: it lacks weights, has those of another network, or NaN.
    """
    transformers: Any = import_module("transformers")
    logging = transformers.utils.logging
    with ExitStack() as stack:
        stack.callback(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity_error()
        if logging.is_progress_bar_enabled():
            stack.callback(logging.enable_progress_bar)
            logging.disable_progress_bar()
        try:
            net, report = getattr(transformers, kind).from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except Exception as error:  # transformers raises many kinds of errors
            raise WeightsError(f"{folder} cannot be read as a {kind}: {shortened(error, 200)}") from error
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if missing:
        raise WeightsError(
            f"{folder} does not have the weights of a {kind}: {len(missing)} are missing or of another "
            f"shape, such as {shortened(missing[0])}. Give the folder of a whole SAM or SAM 2."
        )
    check_finite(net.state_dict(), folder)
    return net.eval().to(device)


def _model_type(folder: Path) -> str:
    text = read_text(folder / CONFIG, "The model's config", "Give the folder of a SAM or SAM 2.")
    try:
        config = parse_json(text)
    except ValueError as error:
        raise InputError(f"{folder / CONFIG} is not valid JSON: {error}") from error
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in _KINDS:
        raise WeightsError(
            f"{folder} is no SAM or SAM 2: its model type is {shortened(found)}. Give a model of type "
            f"{', '.join(_KINDS)}."
        )
    return str(found)

"""Export a trained student to ONNX: pixels in, labels or probabilities out.

    image -> (x / 255 - mean) / std -> pad to the student's multiple -> student
          -> resize to the image -> softmax, or argmax

The graph contains all of it. Class names, colours, mean, std and the version that wrote the file are in the
file's metadata, as JSON.

    input  `image`          "bytes" (the default): uint8 (b, h, w, 3), RGB, as in NumPy and Pillow;
                            "normalised": float32 (b, 3, h, w), for pipelines that normalise images themselves
    output `labels`         uint8 (b, h, w); int32 for 257 classes or more
           `probabilities`  float32 (b, k, h, w), of sum 1 over the classes
"""

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from tagmask import __version__
from tagmask.checks import check_choice, check_installed, check_number
from tagmask.errors import OutputError, WeightsError
from tagmask.files import write_bytes
from tagmask.masks import palette
from tagmask.strict_json import json_text
from tagmask.types import Size
from tagmask.weak.students.student_file import TrainedStudent

__all__ = ["INPUTS", "OUTPUTS", "Deployed", "check_onnx", "export_onnx", "needs_onnx"]

INPUTS: Final = ("bytes", "normalised")
OUTPUTS: Final = ("softmax", "labels")
OPSET: Final = 18
"""Supported by every ONNX runtime since 2023."""
MAX_BYTES: Final = 1 << 31
"""Maximum size of one ONNX file."""


class Deployed(nn.Module):
    """A student with its preprocessing and postprocessing, as one module.

    Args:
        student: in evaluation mode.
        output: "softmax" or "labels".
        pixels: "bytes" or "normalised".
    """

    def __init__(self, student: TrainedStudent, output: str, pixels: str) -> None:
        super().__init__()
        self.net = student.net
        self.output, self.pixels = output, pixels
        self.multiple, self.aligned = student.card.kind.multiple, student.card.kind.aligned
        self.fits_uint8 = len(student.card.words) <= 256
        for name, values in (("mean", student.card.mean), ("std", student.card.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None] * 255)

    def forward(
        self, image: UInt8[Tensor, "b h w 3"] | Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b k h w"] | UInt8[Tensor, "b h w"] | Int32[Tensor, "b h w"]:
        """Compute labels or probabilities at the image's size."""
        if self.pixels == "bytes":
            mean, std = self.get_buffer("mean"), self.get_buffer("std")
            pixels = (image.permute(0, 3, 1, 2).float() - mean) / std
        else:
            pixels = image
        h, w = pixels.shape[-2:]
        if self.multiple > 1:
            pixels = functional.pad(pixels, (0, -w % self.multiple, 0, -h % self.multiple))
        logits: Tensor = functional.interpolate(
            self.net(pixels), size=pixels.shape[-2:], mode="bilinear", align_corners=self.aligned
        )
        logits = logits[..., :h, :w]
        if self.output == "softmax":
            return logits.softmax(1)
        return logits.argmax(1).to(torch.uint8 if self.fits_uint8 else torch.int32)


def needs_onnx() -> None:
    """Check that the exporter's packages are installed.

    Raises:
        InputError: one is missing; the message has the install command.
    """
    check_installed("Exporting", "export", "onnx", "onnxscript")


def export_onnx(
    student: TrainedStudent,
    out: str | os.PathLike[str],
    *,
    size: Size | None = None,
    batch: int | None = None,
    output: str = "softmax",
    pixels: str = "bytes",
    opset: int = OPSET,
) -> None:
    """Write a student to one ONNX file, atomically.

    Args:
        student: not changed; a copy is exported, on the CPU, in float32.
        out: output file.
        size: fixed (h, w) of the input; None: dynamic.
        batch: fixed batch size; None: dynamic.
        output: "softmax" for probabilities, "labels" for their argmax.
        pixels: "bytes" or "normalised", see the module's docstring.
        opset: ONNX opset, 18 or more.

    Raises:
        InputError: onnx or onnxscript are not installed, or a setting is out of range.
        OutputError: the graph cannot be exported, is too large for one file, or the file cannot be written.
    """
    _check(size, batch, output, pixels, opset)
    needs_onnx()
    net = copy.deepcopy(student.net).cpu().float().eval()
    whole = Deployed(TrainedStudent(student.card, net), output, pixels).eval()
    # Dynamic sides of the example are not multiples, so that the exporter does not drop the padding.
    h, w = size or (3 * student.card.kind.multiple + 61, 4 * student.card.kind.multiple + 63)
    example = _zeros(pixels, batch or 2, h, w)
    dynamic: dict[int, Any] = {0: torch.export.Dim.DYNAMIC} if batch is None else {}
    if size is None:
        first = 1 if pixels == "bytes" else 2
        dynamic |= {first: torch.export.Dim.DYNAMIC, first + 1: torch.export.Dim.DYNAMIC}
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                whole,
                (example,),
                input_names=["image"],
                output_names=["labels" if output == "labels" else "probabilities"],
                dynamic_shapes={"image": dynamic},
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # the exporter raises many kinds of errors
            raise OutputError(
                f"The student {student.card.student!r} cannot be exported to ONNX opset {opset}: "
                f"{_reason(error)}. Try {'another opset' if size else 'a fixed size'}."
            ) from error
        model = program.model_proto
    for key, value in _metadata(student, size, batch, output, pixels).items():
        model.metadata_props.add(key=key, value=value)
    if model.ByteSize() >= MAX_BYTES:
        raise OutputError(
            f"{out}: the student takes {model.ByteSize()} bytes, but one ONNX file holds at most 2 GiB."
        )
    import_module("onnx").checker.check_model(model)
    write_bytes(Path(out), model.SerializeToString())


def check_onnx(path: str | os.PathLike[str], student: TrainedStudent, *, seed: int = 0) -> float:
    """Run an exported file on random images and compare it with the original student.

    Dynamic dimensions are tried at several values, both multiples of the student's and others.

    Args:
        path: a file from `export_onnx`.
        student: the exported student.
        seed: of the random images.

    Returns:
        The largest absolute difference of a probability. For a file with labels: the largest gap between the
        student's highest probability and the probability of the exported label; 0 if all labels agree.

    Raises:
        InputError: onnxruntime is not installed.
        WeightsError: the file cannot be run, or was not exported by this package.
    """
    check_installed("Running ONNX", "export", "onnxruntime")
    runtime = import_module("onnxruntime")
    try:
        session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
        metadata = session.get_modelmeta().custom_metadata_map
        output, pixels = json.loads(metadata["output"]), json.loads(metadata["pixels"])
    except Exception as error:  # any file may be given
        raise WeightsError(f"{path} cannot be run as an exported student: {error}") from error
    net = copy.deepcopy(student.net).cpu().float().eval()
    whole = Deployed(TrainedStudent(student.card, net), "softmax", pixels).eval()
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for b, h, w in _test_shapes(session.get_inputs()[0].shape, pixels, student.card.kind.multiple):
        image = _random(pixels, b, h, w, generator)
        with torch.no_grad():
            expected = whole(image)
        exported = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        if output == "labels":
            chosen = expected.gather(1, exported.long()[:, None])[:, 0]
            gap = expected.amax(1) - chosen
        else:
            gap = (expected - exported).abs()
        worst = max(worst, float(gap.max()))
    return worst


def _check(size: Size | None, batch: int | None, output: str, pixels: str, opset: int) -> None:
    check_choice("output", output, OUTPUTS)
    check_choice("pixels", pixels, INPUTS)
    check_number("opset", opset, 18, 99, whole=True)
    for side in size or ():
        check_number("a side of size", side, 1, whole=True)
    if batch is not None:
        check_number("batch", batch, 1, whole=True)


def _metadata(
    student: TrainedStudent, size: Size | None, batch: int | None, output: str, pixels: str
) -> dict[str, str]:
    card = student.card
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette(len(card.words)).tolist()]
    metadata = {
        "format": "tagmask-onnx/1",
        "tagmask": __version__,
        "student": card.student,
        "classes": card.words,
        "colours": colours,
        "background": card.background,
        "mean": card.mean,
        "std": card.std,
        "pixels": pixels,
        "output": output,
        "size": size,
        "batch": batch,
    }
    return {key: json_text(value, ensure_ascii=False) for key, value in metadata.items()}


def _zeros(pixels: str, b: int, h: int, w: int) -> Tensor:
    return torch.zeros(b, h, w, 3, dtype=torch.uint8) if pixels == "bytes" else torch.zeros(b, 3, h, w)


def _random(pixels: str, b: int, h: int, w: int, generator: torch.Generator) -> Tensor:
    if pixels == "bytes":
        return torch.randint(0, 256, (b, h, w, 3), dtype=torch.uint8, generator=generator)
    return torch.randn(b, 3, h, w, generator=generator)


def _test_shapes(shape: list[int | str], pixels: str, multiple: int) -> Iterator[tuple[int, int, int]]:
    """Batch sizes and image sides to test: fixed dimensions as they are, dynamic ones at two values."""
    dimensions = [shape[i] for i in ((0, 1, 2) if pixels == "bytes" else (0, 2, 3))]
    candidates = ((1, 2 * multiple + 33, 3 * multiple + 17), (3, 4 * multiple + 64, 2 * multiple + 32))
    done = set()
    for candidate in candidates:
        b, h, w = (
            fixed if isinstance(fixed, int) else value
            for fixed, value in zip(dimensions, candidate, strict=True)
        )
        if (b, h, w) not in done:
            done.add((b, h, w))
            yield b, h, w


def _reason(error: BaseException) -> str:
    """First line of the root cause; the exporter wraps it in long advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes about torchvision and its own deprecation warnings."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

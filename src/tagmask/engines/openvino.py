"""The first blocks of the image tower in OpenVINO: float32, bfloat16 or int8, on a processor.

The blocks are converted from the torch modules once and kept in the cache folder. The model has the output of
every block; what is compiled is cut off after the last block that is asked for. For int8, the products with
weights are quantised after training, with ranges measured on the user's photos; attention, normalisation and
the residual stream stay in the precision of the weights as loaded.

    https://github.com/openvinotoolkit/openvino, https://github.com/openvinotoolkit/nncf
"""

import copy
import hashlib
import logging
import sys
import threading
import warnings
from collections.abc import Mapping, Set
from contextlib import redirect_stdout
from io import StringIO
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tagmask.clip.load import Clip
from tagmask.clip.model import Block
from tagmask.engines.calibration import calibration_windows
from tagmask.engines.stored_model import read_model, write_model
from tagmask.errors import InputError
from tagmask.settings.engine import EngineSettings
from tagmask.types import Tokens

if TYPE_CHECKING:
    import openvino

__all__ = ["OpenVinoBlocks"]

_LOG = logging.getLogger(__name__)

_HINTS: Mapping[str, str] = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names of the precisions of weights; without one it chooses bfloat16 by itself."""
_FORMAT = 1
"""Raised when converted models are made in another way than before."""


class OpenVinoBlocks:
    """Runs the first blocks of one image tower; an `Engine`.

    Each combination of layers is compiled on first use, for any number of tokens.

    Args:
        blocks: all blocks but the last.
        precision: of the weights as loaded.
        key: hash of the weights, for the cache.
        samples: tokens to calibrate int8 on; None for the precision of the weights.
    """

    def __init__(
        self, blocks: list[Block], precision: str, key: str, samples: list[Float[Tensor, "1 n d"]] | None
    ) -> None:
        self._blocks, self._hint, self._samples = blocks, _HINTS[precision], samples
        self.precision = precision if samples is None else "int8"
        self.identity: Mapping[str, str] = {"name": "openvino"}
        if samples is not None:
            self.identity = {**self.identity, "precision": "int8", "calibration": _hash(*samples)[:16]}
        versions = [f"openvino {_openvino().get_version()}"]
        if samples is not None:
            versions.append(f"nncf {_nncf().__version__}")
        parts = (str(_FORMAT), key, *versions, *self.identity.values())
        self._key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self._compiled: dict[tuple[frozenset[int], bool], _CompiledBlocks] = {}
        self._lock = threading.Lock()
        self._model()  # convert now: errors are early, and the time is not the first image's

    @classmethod
    def of(cls, clip: Clip, settings: EngineSettings) -> "OpenVinoBlocks":
        """Convert the blocks of a model, or find them in the cache folder.

        Args:
            clip: the frozen model.
            settings: of the engine.

        Raises:
            InputError: OpenVINO does not run on the model's device, or in its precision.
            ImageError: a photo to calibrate on cannot be read.
        """
        if clip.device.type != "cpu":
            raise InputError(
                f"The engine openvino runs on the processor, not {clip.device}. Use device='cpu'."
            )
        if clip.precision not in _HINTS:
            raise InputError(
                f"The engine openvino does not compute in {clip.precision}. "
                "Load the weights in float32 or bfloat16."
            )
        native = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if clip.precision == "bfloat16" and "BF16" not in native:
            raise InputError(
                "This processor has no bfloat16, so OpenVINO would compute in float32. "
                "Load the weights in float32."
            )
        samples = None
        if settings.precision == "int8":
            with torch.inference_mode():
                windows = calibration_windows(clip, settings.images)
                tokens = clip.vision.embed(windows, clip.vision.positional_embedding)
            samples = list(tokens.split(1))
        plain = clip.with_engine(None)
        return cls(clip.vision.blocks[:-1], clip.precision, plain.fingerprint, samples)

    def __call__(
        self, x: Tokens, layers: Set[int], bias: Float[Tensor, "#b #heads n n"] | None = None
    ) -> Mapping[int, Tokens]:
        """See `Engine`."""
        wanted = frozenset(layers)
        inputs = [x] if bias is None else [x, bias.float().expand(len(x), *bias.shape[1:])]
        outputs = self._compile(wanted, masked=bias is not None).run(inputs)
        return dict(zip(sorted(wanted), outputs, strict=True))

    def _compile(self, layers: frozenset[int], *, masked: bool) -> "_CompiledBlocks":
        with self._lock:
            found = self._compiled.get((layers, masked))
            if found is None:
                model = self._model()
                for layer, result in enumerate(model.get_results()):
                    if layer not in layers:
                        model.remove_result(result)
                if masked:
                    _add_bias(model)
                options = {
                    "INFERENCE_PRECISION_HINT": self._hint,
                    "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                    "PERFORMANCE_HINT": "LATENCY",
                }
                found = _CompiledBlocks(_openvino().Core().compile_model(model, "CPU", options))
                self._compiled[layers, masked] = found
            return found

    def _model(self) -> "openvino.Model":
        """The converted blocks, from the cache if they are there; read anew, since compiling keeps a copy."""
        path = read_model(self._key)
        if path is None:
            _LOG.info(
                "Preparing the weights for OpenVINO, once%s.",
                "" if self._samples is None else ": calibrating int8 takes minutes",
            )
            model = _convert(self._blocks)
            if self._samples is not None:
                model = _quantise(model, self._samples)
            write_model(
                self._key,
                lambda target: _openvino().save_model(model, target, compress_to_fp16=False),
            )
            path = read_model(self._key)
            if path is None:  # no cache
                return model
        return _openvino().Core().read_model(path)


class _CompiledBlocks:
    """A compiled model, and idle requests to it: one request runs one call at a time."""

    def __init__(self, compiled: "openvino.CompiledModel") -> None:
        self._compiled = compiled
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            arrays = [np.ascontiguousarray(tensor.detach().numpy()) for tensor in inputs]
            results = request.infer(arrays, share_inputs=True)  # the outputs are copied
            return [torch.from_numpy(results[i]) for i in range(len(results))]
        finally:
            self._idle.put(request)


class _Outputs(nn.Module):
    """Blocks with the output of each."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return tuple(outputs)


def _convert(blocks: list[Block]) -> "openvino.Model":
    """Convert blocks, with float32 weights: the rounding of lower precisions is in their values."""
    ov = _openvino()
    width = blocks[0].ln_1.normalized_shape[0]
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: sizes are traced, not fixed
        module = _Outputs(copy.deepcopy(blocks)).float().eval()
        traced = torch.jit.trace(module, torch.zeros(2, 5, width), check_trace=False)
        return ov.convert_model(traced, input=[ov.PartialShape([-1, -1, width])])


def _quantise(model: "openvino.Model", samples: list[Float[Tensor, "1 n d"]]) -> "openvino.Model":
    nncf = _nncf()
    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(StringIO()), warnings.catch_warnings():  # its progress bars are on stdout
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            nncf.Dataset([sample.numpy() for sample in samples]),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
        )


def _add_bias(model: "openvino.Model") -> None:
    """Add an input to every attention layer of a model, which is added to its logits."""
    ov = _openvino()
    bias = ov.opset13.parameter([-1, -1, -1, -1], np.float32, name="bias")
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            q, k, v = (node.input_value(i) for i in range(3))
            masked = ov.opset13.scaled_dot_product_attention(q, k, v, bias, causal=False)
            ov.utils.replace_node(node, masked)
    model.add_parameters([bias])


def _hash(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _openvino() -> Any:  # noqa: ANN401  # a module
    # OpenVINO and NNCF send usage data to their makers if they can import this package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _nncf() -> Any:  # noqa: ANN401  # a module
    _openvino()
    import nncf

    return nncf

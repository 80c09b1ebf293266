"""The options of the engine, which runs the first blocks of the image tower."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.options import Precision
from tagmask.errors import InputError

if TYPE_CHECKING:
    from tagmask.settings.engine import EngineSettings

__all__ = [
    "EngineName",
    "EngineOption",
    "EnginePrecision",
    "EnginePrecisionOption",
    "Int8Images",
    "read_engine",
]


class EngineName(StrEnum):
    """What runs the first blocks of the image tower."""

    torch = "torch"
    openvino = "openvino"


class EnginePrecision(StrEnum):
    """Number format of the matrix products, of engines too."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"


EngineOption = Annotated[
    EngineName,
    typer.Option(
        metavar="NAME",
        help="torch; or openvino (extra openvino) for most of the network, faster on processors.",
    ),
]
EnginePrecisionOption = Annotated[
    EnginePrecision,
    typer.Option(
        metavar="NAME",
        help="auto (the fastest on this machine), float32, bfloat16 or float16; with --engine openvino also "
        "int8, which changes some labels.",
    ),
]
Int8Images = Annotated[
    Path | None,
    typer.Option(
        "--int8-images",
        metavar="DIR",
        help="With --precision int8: photos like yours, from which it takes the ranges of its numbers.",
    ),
]


def read_engine(
    engine: EngineName, precision: EnginePrecision, photos: Path | None
) -> tuple["EngineSettings | None", Precision]:
    """Return the engine, None for torch, and the precision of the weights.

    Raises:
        InputError: options that do not fit, or the engine is not installed.
    """
    int8 = precision is EnginePrecision.int8
    if int8 and engine is not EngineName.openvino:
        raise InputError("--precision int8 needs --engine openvino. Give it too, or another --precision.")
    if int8 and photos is None:
        raise InputError("--precision int8 is calibrated on photos. Give a folder: --int8-images DIR.")
    if photos is not None and not int8:
        raise InputError("--int8-images has no effect without --precision int8. Leave it out.")
    rest = Precision.auto if int8 else Precision(precision.value)
    if engine is EngineName.torch:
        return None, rest
    from tagmask.runtime.folders import find_images
    from tagmask.settings.engine import EngineSettings, engine_settings

    if photos is None:
        return engine_settings(engine.value), rest
    images = [found.path for found in find_images([photos])]
    return engine_settings(EngineSettings(engine.value, "int8", images)), rest

"""Networks of the `transformers` package: the extra itself, and weights from a folder on this machine."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from tagmask.errors import InputError, WeightsError

__all__ = ["from_folder", "need_transformers"]


def need_transformers(student: str) -> Any:  # noqa: ANN401 - the package has no one type
    """The `transformers` package.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("transformers") is None:
        raise InputError(
            f"the student {student!r} is built by the transformers package, which is not installed: "
            "pip install 'tagmask[students]', or take 'small' or 'deeplab-resnet38'"
        )
    return import_module("transformers")


def from_folder(
    student: str, kind: type[nn.Module], folder: Path, fresh: Collection[str], **settings: object
) -> nn.Module:
    """A network with the weights of a folder in Hugging Face's form.

    Nothing is downloaded, and no code in the folder is run.

    Args:
        student: its name, for messages.
        kind: a model class of transformers.
        folder: with `model.safetensors` or `pytorch_model.bin`.
        fresh: beginnings of the names that the folder need not have, or may have in other shapes: heads.
        settings: for the model class; `config` decides the shape, whatever the folder says.

    Raises:
        WeightsError: the folder is absent, holds no weights, or those of another network.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"{folder} is no folder; give one in Hugging Face's form (config.json and model.safetensors) to "
            f"start {student!r} from, or nothing to start from random weights"
        )
    transformers: Any = need_transformers(student)
    with _quiet(transformers):
        try:
            net, told = kind.from_pretrained(  # type: ignore[attr-defined]
                folder,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **settings,
            )
        except Exception as error:  # whatever the readers raise, the user has one thing to know
            raise WeightsError(f"{folder} cannot be read as weights of {student!r}: {error}") from error
    other = [each if isinstance(each, str) else str(each[0]) for each in told["mismatched_keys"]]
    wrong = sorted(name for name in {*told["missing_keys"], *other} if not name.startswith(tuple(fresh)))
    if wrong:
        raise WeightsError(
            f"{folder} does not hold the weights of {student!r}: {len(wrong)} are missing or of another "
            f"shape, as {wrong[0]}. Give a folder of that very network, in any of its sizes of head."
        )
    return net  # type: ignore[no-any-return]


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:  # noqa: ANN401
    """Its report of what a head lacks is no news here: what matters is checked and raised."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)

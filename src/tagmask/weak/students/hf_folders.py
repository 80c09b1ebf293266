"""Networks of the optional `transformers` package, with weights from a local folder."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from tagmask.checks import check_installed
from tagmask.clip.finite import check_finite
from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["from_folder", "need_transformers"]


def need_transformers(student: str) -> Any:  # noqa: ANN401 - the package has no one type
    """Import the `transformers` package.

    Raises:
        InputError: it is not installed.
    """
    check_installed(
        f"The student {student!r}", "students", otherwise=", or use 'small' or 'deeplab-resnet38'."
    )
    return import_module("transformers")


def from_folder(
    student: str, kind: type[nn.Module], folder: Path, optional: Collection[str], **settings: object
) -> nn.Module:
    """Load a network with the weights of a folder in Hugging Face format.

    Nothing is downloaded, and no code in the folder runs.

    Args:
        student: the student's name, for messages.
        kind: a model class of transformers.
        folder: with `model.safetensors` or `pytorch_model.bin`.
        optional: name prefixes of weights that may be missing or have other shapes, such as a head's.
        settings: for the model class; `config` determines the architecture, not the folder's config.

    Raises:
        WeightsError: the folder is absent, has no weights, those of another network, or NaN.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"{folder} is not a folder. Give a folder in Hugging Face format (config.json and "
            f"model.safetensors) for {student!r}, or no weights to start from random ones."
        )
    transformers: Any = need_transformers(student)
    with _quiet(transformers):
        try:
            net, report = kind.from_pretrained(  # type: ignore[attr-defined]
                folder,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **settings,
            )
        except Exception as error:  # transformers raises many kinds of errors
            reason = shortened(str(error), 300)
            raise WeightsError(f"{folder} cannot be read as weights of {student!r}: {reason}") from error
    mismatched = [key if isinstance(key, str) else str(key[0]) for key in report["mismatched_keys"]]
    wrong = sorted(
        name for name in {*report["missing_keys"], *mismatched} if not name.startswith(tuple(optional))
    )
    if wrong:
        raise WeightsError(
            f"{folder} does not have the weights of {student!r}: {len(wrong)} are missing or of another "
            f"shape, such as {wrong[0]}. Give a folder of the same architecture; its head may differ."
        )
    check_finite(net.state_dict(), folder)
    return net  # type: ignore[no-any-return]


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:  # noqa: ANN401
    """Silence the warnings about missing head weights; `from_folder` checks the keys itself."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)

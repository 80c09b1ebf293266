"""Compare the tensors of a file with those that a model needs, before they are used."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from tagmask.printable import shortened

__all__ = ["misfits"]


def misfits(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], optional: Collection[str] = ()
) -> str:
    """Describe how names, shapes and kinds of tensors differ; "" if they fit.

    Args:
        expected: of the model, which may be on the meta device.
        given: of the file.
        optional: names that may be missing.
    """
    problems = {
        "missing": [name for name in expected if name not in given and name not in optional],
        "unexpected": [shortened(name) for name in given if name not in expected],
        "wrong shape": [
            f"{name} is {shortened(tuple(given[name].shape))} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in given and given[name].shape != tensor.shape
        ],
        "wrong type": [
            f"{name} is {given[name].dtype} instead of {tensor.dtype}"
            for name, tensor in expected.items()
            if name in given and given[name].is_floating_point() != tensor.is_floating_point()
        ],
    }
    return "; ".join(f"{what}: {_first(names)}" for what, names in problems.items() if names)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

"""Which device and which precision: chosen by name, or by what this machine is fast at."""

import torch

from tagmask.errors import InputError

__all__ = ["PRECISIONS", "choose_device", "choose_precision", "explain_precision"]

_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")

PRECISIONS = ("float32", "bfloat16", "float16")


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    wanted = "give 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here ({reason}); {wanted}") from error
    if device.type not in _DEVICE_TYPES:
        raise InputError(f"device {name!r} cannot be used here (nothing is computed on it); {wanted}")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """The precision called `name`; "auto" is bfloat16 where it has its own matrix unit, else float32.

    Raises:
        InputError: no such precision.
    """
    if name in PRECISIONS:
        return name
    if name != "auto":
        raise InputError(f"precision {name!r} is unknown; give 'auto', {', '.join(map(repr, PRECISIONS))}")
    return explain_precision(device)[0]


def explain_precision(device: torch.device) -> tuple[str, str]:
    """What "auto" chooses on a device, and why, in a few words."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "this GPU multiplies it natively"
        return "float16", "this GPU has no bfloat16 of its own"
    if device.type == "cpu" and _cpu_has_bfloat16():
        return "bfloat16", "this processor multiplies it natively (AVX512-BF16 or AMX)"
    if device.type == "cpu":
        return "float32", "this processor has no matrix instructions for bfloat16"
    return "float32", f"nothing shorter has been shown to be right and faster on {device.type}"


def _cpu_has_bfloat16() -> bool:
    # Emulated bfloat16 is slower than float32, so ask for the instructions, not for the data type.
    # Older releases of torch cannot be asked; there "auto" stays with float32.
    ask = getattr(torch.cpu, "get_capabilities", None)
    if ask is None:
        return False
    found = ask()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))

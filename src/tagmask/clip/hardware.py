"""Choose the device and the precision: by name, or automatically for this machine."""

import torch

from tagmask.checks import check_choice, did_you_mean, shown
from tagmask.errors import InputError

__all__ = ["PRECISIONS", "choose_device", "choose_precision", "cpu_has_bfloat16", "explain_precision"]

_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")

PRECISIONS = ("float32", "bfloat16", "float16")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    choices = "Use 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'."
    errors = (RuntimeError, AssertionError, NotImplementedError, TypeError)
    try:
        device = torch.device(name)
    except errors as error:
        meant = "cuda" if str(name).lower().startswith("gpu") else name
        hint = did_you_mean(meant, ("auto", "cpu", "cuda", "mps"), 1)
        raise InputError(f"Unknown device {shown(name)}.{hint} {choices}") from error
    try:
        torch.empty(0, device=device)
    except errors as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"Cannot use device {name!r} on this machine: {reason}. {choices}") from error
    if device.type not in _DEVICE_TYPES:
        raise InputError(f"Cannot use device {name!r}: it does not compute anything. {choices}")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return the precision called `name`; "auto" takes the one that `explain_precision` names.

    Raises:
        InputError: unknown precision.
    """
    check_choice("precision", name, ("auto", *PRECISIONS))
    return explain_precision(device)[0] if name == "auto" else name


def explain_precision(device: torch.device) -> tuple[str, str]:
    """Return the precision that "auto" takes on a device, and the reason in a few words.

    This is bfloat16 where the hardware has it, float16 on other CUDA GPUs, and float32 elsewhere.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "this GPU supports it natively"
        return "float16", "this GPU has no native bfloat16"
    if device.type == "cpu" and cpu_has_bfloat16():
        return "bfloat16", "this processor supports it natively (AVX512-BF16 or AMX)"
    if device.type == "cpu":
        return "float32", "this processor has no matrix instructions for bfloat16"
    return "float32", f"lower precisions are not verified on {device.type}"


def cpu_has_bfloat16() -> bool:
    """Whether the processor has matrix instructions for bfloat16."""
    # Emulated bfloat16 is slower than float32, so check the instruction sets, not the data type.
    # Older releases of torch have no such function; there "auto" keeps float32.
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if get_capabilities is None:
        return False
    capabilities = get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

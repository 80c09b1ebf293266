"""Label Studio's brush format, written value by value: what its own writers do, without ours."""

import numpy as np

__all__ = ["encoded", "encoded_values"]


def encoded(mask: np.ndarray) -> list[int]:
    """Runs of values, as label-studio-sdk writes them."""
    values = np.repeat(mask.ravel() * 255, 4).tolist()
    bits, at = _header(len(values)), 0
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 65_536:
            end += 1
        index = next(index for index, width in enumerate((3, 4, 8, 16)) if end - at <= 1 << width)
        bits += f"1{index:02b}{end - at - 1:0{(3, 4, 8, 16)[index]}b}{values[at]:08b}"
        at = end
    return _bytes(bits)


def encoded_values(rgba: np.ndarray) -> list[int]:
    """Literal values, as the browser writes strokes of several colours."""
    values = rgba.ravel().tolist()
    bits = _header(len(values))
    for at in range(0, len(values), 256):
        block = values[at : at + 256]
        bits += f"010{len(block) - 1:08b}" + "".join(f"{value:08b}" for value in block)
    return _bytes(bits)


def _header(count: int) -> str:
    return f"{count:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"


def _bytes(bits: str) -> list[int]:
    bits += "0" * (8 - len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]

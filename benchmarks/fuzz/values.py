"""Change JSON and TOML value by value: other types, sizes and depths, names that lead elsewhere."""

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from benchmarks.fuzz.mutate import mutate_bytes

__all__ = ["change_tree", "dump", "mutate_json", "mutate_toml"]

_DEEP = "@deep@"
"""Stands for a value whose depth json.dumps could not write."""

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**63, 2**64, 10**400,
    0.5, -0.0, 1e-320, 1e308, 5e8, float("nan"), float("inf"), float("-inf"),
    "", " ", "a", "0", "nan", "../../up", "/absolute", "a\0b", "\ud800", "a" * 5000, "é", "\x1b[31m", "[1,2",
    "1e400", "{}", "null", "cpu", "none", [], {}, [[]], [0], [None], [[1e9] * 6], [1, 2, 3], {"a": {}}, _DEEP,
)  # fmt: skip

_TOML = (
    "0", "-1", "1", "9" * 30, "9" * 5000, "1e400", "nan", "inf", "-inf", "true", '""', '"a"', '"\\u0000"',
    '"../../up"', '"/absolute"', "[]", "{}", "[[]]", '["cat", "cat"]', '["", " "]', "1979-05-27",
    "0x7fffffff",
        '"' + "a" * 5000 + '"', "[1, 'a', 2.0]", "{a = {b = 1}}", '"none"', '"clip"', '"sclip/voc21"', "0.5",
)  # fmt: skip


def mutate_json(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change a JSON text as a tree, or as bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(data, others, rng)
    try:
        tree = json.loads(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            tree = change_tree(tree, rng)
        return dump(tree, rng)
    except (ValueError, RecursionError):  # damaged or deep already
        return mutate_bytes(data, others, rng)


def dump(tree: object, rng: Random) -> bytes:
    """Write a tree as JSON text, deep values as deep as they are."""
    text = json.dumps(tree)
    depth = rng.choice((100, 5_000, 200_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    deep = opening * depth + "0" + closing * (depth if rng.random() < 0.5 else 0)
    return text.replace(f'"{_DEEP}"', deep, 1).encode()


def change_tree(tree: Any, rng: Random) -> Any:  # noqa: ANN401
    """Change one node of a tree of dicts and lists: replace, remove, repeat, rename or move it.

    A text that is JSON itself is changed inside half of the time.
    """
    at = tree
    while True:
        if not isinstance(at, dict | list) or not at:
            return rng.choice(_VALUES)
        key = rng.choice(sorted(at)) if isinstance(at, dict) else rng.randrange(len(at))
        value = at[key]
        if isinstance(value, dict | list) and value and rng.random() < 0.75:
            at = value
            continue
        break
    _change(at, key, rng)
    return tree


def _change(at: Any, key: Any, rng: Random) -> None:  # noqa: ANN401
    value = at[key]
    match rng.randrange(8):
        case 0:
            del at[key]
        case 1 if isinstance(at, list):
            at[key:key] = [value] * (1 << rng.randrange(10))
        case 1 | 2 if isinstance(at, dict):
            at[rng.choice([*sorted(at), "", "a" * 5000, "../up", "0", str(value)[:50]])] = at.pop(key)
        case 3 if isinstance(at, list):
            at.insert(rng.randrange(len(at)), at.pop(key))
        case 3 if isinstance(at, dict):
            at[key] = at[rng.choice(sorted(at))]
        case 4 if isinstance(value, int | float) and not isinstance(value, bool):
            at[key] = rng.choice((-value, value + 1, value * 1000, value * 2**32, str(value), [value]))
        case _:
            at[key] = _inside(value, rng)


def _inside(value: Any, rng: Random) -> Any:  # noqa: ANN401
    if isinstance(value, str) and value[:1] in "[{0123456789tf" and rng.random() < 0.8:
        try:
            return dump(change_tree(json.loads(value), rng), rng).decode()
        except (ValueError, RecursionError):
            return rng.choice(_VALUES)
    return rng.choice(_VALUES)


def mutate_toml(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change a TOML text line by line, or as bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(data, others, rng)
    lines = data.decode("utf-8", "replace").splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines) + 1)
        rng.choice(_LINES)(lines, at, rng)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _new_value(lines: list[str], at: int, rng: Random) -> None:
    with_values = [i for i, line in enumerate(lines) if "=" in line]
    if with_values:
        i = rng.choice(with_values)
        lines[i] = f"{lines[i].partition('=')[0]}= {rng.choice(_TOML)}"


def _new_key(lines: list[str], at: int, rng: Random) -> None:
    names = re.findall(r"^\w+", "\n".join(lines), re.M) or ["a"]
    name = rng.choice(
        (rng.choice(names), "a.b", '"a b"', '""', "a" * 5000, "base", "method", ".".join("a" * 900))
    )
    lines.insert(at, f"{name} = {rng.choice(_TOML)}")


def _header(lines: list[str], at: int, rng: Random) -> None:
    headers = [line for line in lines if line.startswith("[")] or ["[a]"]
    deep = ".".join("a" * rng.choice((50, 5_000)))
    lines.insert(
        at, rng.choice((rng.choice(headers), f"[{deep}]", f"[[{deep}]]", "[thresholds]", "[[a]]", "["))
    )


def _deep_list(lines: list[str], at: int, rng: Random) -> None:
    depth = rng.choice((50, 500, 20_000))
    lines.insert(at, f"a = {'[' * depth}{']' * depth}")


def _move(lines: list[str], at: int, rng: Random) -> None:
    if lines:
        lines.insert(at, lines.pop(rng.randrange(len(lines))))


def _repeat(lines: list[str], at: int, rng: Random) -> None:
    if lines:
        lines.insert(at, rng.choice(lines))


def _remove(lines: list[str], at: int, rng: Random) -> None:
    del lines[at : at + 1 + rng.randrange(2)]


_LINES: tuple[Callable[[list[str], int, Random], None], ...] = (
    _new_value, _new_value, _new_value, _new_key, _header, _deep_list, _move, _repeat, _remove,
)  # fmt: skip

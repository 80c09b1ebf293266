"""Settings from outside: hostile values and files are refused, in bounded time."""

import os
import time
from pathlib import Path

import pytest

from tagmask.checks import check_number
from tagmask.cli.arguments import read_words
from tagmask.data.lists import read_ids, read_tags
from tagmask.errors import InputError
from tagmask.resolve import recipe
from tagmask.settings.parse import class_lines, fit_value, parse_assignments, parse_toml, parse_value
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config, with_settings

HEAD = 'words = ["cat", "dog"]\nbackground = []\ntemplates = ["a {}."]\n'

HOSTILE = {
    "deep lists": "top = " + "[" * 100_000,
    "deep tables": "top = " + "{a=" * 100_000,
    "closed deep lists": "top = " + "[" * 5_000 + "]" * 5_000,
    "long key": ".".join(["a"] * 100_000) + " = 1",
    "long header": "[" + " . ".join(["a"] * 100_000) + "]",
    "long quoted key": ".".join(['"a b"'] * 100_000) + " = 1",
    "many digits": "top = " + "1" * 5000,
    "large number": "top = 99999999999999999999",
    "large hexadecimal": "top = 0x" + "f" * 100_000,
    "NaN": "tag_tau = nan",
    "infinity": "tag_tau = inf",
    "overflow": "tag_tau = 1e999",
    "NaN in a list": "top = [1, {a = [nan]}]",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_toml_is_one_short_error_that_names_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.toml"
    file.write_text(HEAD + text)
    began = time.process_time()
    for read in (recipe, lambda path: load_config(str(path))):
        with pytest.raises(InputError, match=r"hostile\.toml is not valid TOML") as caught:
            read(file)
        assert len(str(caught.value)) < 600
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "[thresholds]\ncat = nan",
        "[thresholds]\ncat = -inf",
        f'[thresholds]\n"{"x" * 100_000}" = 1',
        "\n".join(f"unknown{i} = 1" for i in range(10_000)),
        f"{'x' * 100_000} = 1",
        f'method = "{"x" * 100_000}"',
        f"tag_tau = {'[' + '1,' * 50_000 + ']'}",
    ],
)
def test_errors_of_recipes_stay_short(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        (text + "\n" if "[" not in text[:1] else "") + HEAD + text * ("[" in text[:1])
    )
    with pytest.raises(InputError) as caught:
        recipe(tmp_path / "r.toml")
    assert str(tmp_path / "r.toml") in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("words", [["", "cat"], ["cat", "cat"], ["x" * 2000]])
def test_the_words_of_a_recipe_are_checked(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(HEAD.replace('"cat", "dog"', ", ".join(f'"{word}"' for word in words)))
    with pytest.raises(InputError, match=r"r\.toml: words has ") as caught:
        recipe(tmp_path / "r.toml")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "read",
    [
        recipe,
        lambda path: load_config(str(path)),
        lambda path: read_words([f"@{path}"]),
        lambda path: read_tags(path, 3),
        read_ids,
    ],
    ids=["recipe", "config", "words", "tags", "ids"],
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large", "zero bytes", "latin-1"])
def test_no_settings_file_hangs_or_exhausts_the_memory(read: object, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 30)
    else:
        path.write_bytes(b"a\0b" if kind == "zero bytes" else b"caf\xe9")
    assert callable(read)
    with pytest.raises(InputError, match=r"hostile\.toml cannot be read: "):
        read(path)


LONG_VALUES = ["[" * 100_000, "1" * 5000, "0x" + "f" * 100_000, "nan", "1e999", "{a=" * 10_000]


@pytest.mark.parametrize("text", LONG_VALUES, ids=range(len(LONG_VALUES)))
def test_a_hostile_value_stays_text_and_is_refused_by_its_setting(text: str) -> None:
    assert parse_value(text) == text
    assert parse_assignments([f"prob_thd={text}"]) == {"prob_thd": text}
    with pytest.raises(InputError, match="prob_thd is ") as caught:
        fit_value("prob_thd", text, float)
    assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match="lr is ") as caught:
        with_settings(TrainConfig(), [f"lr={text}"])
    assert len(str(caught.value)) < 200


NUMBERS = [float("nan"), float("inf"), 10**400, -(10**5000), "x" * 100_000, [10**5000]]


@pytest.mark.parametrize("value", NUMBERS, ids=range(len(NUMBERS)))
def test_hostile_numbers_from_a_program_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="logit_scale is ") as caught:
        check_number("logit_scale", value, 0)
    assert len(str(caught.value)) < 200


def test_names_are_bounded_and_messages_short() -> None:
    for given in (["x" * 1001], ["x" * 100_000], [10**5000], ["\udfff" * 1000]):
        with pytest.raises(InputError) as caught:
            class_lines("words", given)
        assert len(str(caught.value)) < 300
    assert class_lines("words", ["x" * 1000]) == ("x" * 1000,)


def test_usual_toml_is_read_as_it_was() -> None:
    text = 'a.b.c = 1\n"x.y" = [0.5, 1.5, 2]\nd = "' + "www.a.b. " * 30 + '"\nn = -9223372036854775808\n'
    parsed = parse_toml(text)
    assert parsed["a"] == {"b": {"c": 1}}
    assert (parsed["x.y"], parsed["n"]) == ([0.5, 1.5, 2], -(2**63))


@pytest.mark.parametrize("before", ['"""it\'s"""', "'''say \"'''", '"""four""""', '"\\""', "'\\'"])
def test_no_string_hides_a_long_key(before: str) -> None:
    text = f"t = {{a = {before}, {'.'.join(['k'] * 1000)} = 1}}"
    with pytest.raises(ValueError, match="a key of more than 16 parts"):
        parse_toml(text)
    assert parse_toml(text.replace("." + ".".join(["k"] * 999), "")) is not None

import tomllib
from pathlib import Path

import pytest

from tagmask.checks import EXTRAS, check_choice, check_installed, check_number, did_you_mean
from tagmask.errors import InputError


@pytest.mark.parametrize(
    ("value", "low", "high", "whole", "good"),
    [
        (0, 0, 1, False, True),
        (1.0, 0, 1, False, True),
        (1.01, 0, 1, False, False),
        (float("nan"), 0, 1, False, False),
        (10**9, 1, None, True, True),
        (1.0, 1, None, True, False),
        (True, 0, 1, False, False),
        ("1", 0, 1, False, False),
        (None, 0, 1, False, False),
    ],
)
def test_numbers(value: object, low: int, high: int | None, whole: bool, good: bool) -> None:
    if good:
        check_number("x", value, low, high, whole=whole)
    else:
        with pytest.raises(InputError, match=r"^x is .*\. Give a"):
            check_number("x", value, low, high, whole=whole)


def test_choices() -> None:
    check_choice("x", "a", ("a", "b"))
    with pytest.raises(InputError, match=r"Unknown x 'c'\. Give one of a, b\."):
        check_choice("x", "c", ("a", "b"))


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), 2**64, -(10**400)])
def test_numbers_that_no_setting_can_hold_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"x is .*Give a number"):
        check_number("x", value, -float("inf"))


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("scilp", " Did you mean sclip or clip?"),
        ("SCLIP", " Did you mean sclip or clip?"),
        ("gem", " Did you mean GEM?"),
        ("penguin", ""),
        ("", ""),
        (None, ""),
        ("sclip" * 10**6, ""),
    ],
)
def test_near_names_are_asked_for(name: object, question: str) -> None:
    assert did_you_mean(name, ["clip", "sclip", "GEM", "naclip"], 2) == question


def test_choices_ask_for_near_ones() -> None:
    with pytest.raises(InputError, match=r"Unknown x 'pmar'\. Did you mean pamr\? Give one of none, pamr\."):
        check_choice("x", "pmar", ("none", "pamr"))


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    declared = project["project"]["optional-dependencies"]
    assert {extra: sorted(packages.values()) for extra, packages in EXTRAS.items()} == {
        extra: sorted(package.split(">=")[0] for package in packages)
        for extra, packages in declared.items()
        if extra not in ("test", "dev")
    }


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_refused_with_the_command_that_installs_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda module: None)
    with pytest.raises(InputError) as caught:
        check_installed("This", extra)
    for package in EXTRAS[extra].values():
        assert package in str(caught.value)
    assert str(caught.value).endswith(f". Run: pip install 'tagmask[{extra}]'")

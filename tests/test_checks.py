import pytest

from tagmask.checks import check_choice, check_number
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

import pytest

from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, resolve_metadata, triple
from tagmask.errors import WeightsError

HALF = (0.5, 0.5, 0.5)
CONFIG = MetadataClaim("the config", "gelu", HALF, HALF)
OPENAI = MetadataClaim("the name", "quickgelu", OPENAI_MEAN, OPENAI_STD)
SILENT = MetadataClaim("the header")


def test_what_is_said_is_taken_without_a_word():
    found = resolve_metadata("w", [SILENT, CONFIG], None)
    assert (found.activation, found.mean, found.std) == ("gelu", HALF, HALF)
    assert (found.activation_known, found.preprocessing_known, found.warnings) == (True, True, ())


def test_parts_may_come_from_different_sources():
    found = resolve_metadata(
        "w", [MetadataClaim("a", activation="gelu"), MetadataClaim("b", mean=HALF, std=HALF)], None
    )
    assert (found.activation, found.mean, found.warnings) == ("gelu", HALF, ())


def test_two_that_disagree_are_an_error_that_names_both():
    with pytest.raises(
        WeightsError, match=r"w: the name says quickgelu but the config says gelu on the activ"
    ):
        resolve_metadata("w", [OPENAI, CONFIG], None)


def test_the_caller_decides_between_two_and_hears_what_was_said():
    mixed = [OPENAI, MetadataClaim("the config", "gelu")]
    found = resolve_metadata("w", mixed, "gelu")
    assert found.activation == "gelu"
    assert found.warnings == ("w runs with the activation gelu, as asked, though the name says quickgelu.",)


@pytest.mark.parametrize(("asked", "said"), [("gelu", OPENAI), ("quickgelu", CONFIG)])
def test_a_caller_who_contradicts_is_obeyed_aloud(asked, said):
    found = resolve_metadata("w", [said], asked)
    assert (found.activation, found.activation_known) == (asked, True)
    assert len(found.warnings) == 1
    assert f"though {said.by} says {said.activation}" in found.warnings[0]


@pytest.mark.parametrize("key", ["mean", "std"])
def test_mean_and_std_that_disagree_are_an_error(key):
    other = MetadataClaim("the config", "quickgelu", **{"mean": OPENAI_MEAN, "std": OPENAI_STD, key: HALF})
    with pytest.raises(WeightsError, match=f"on the {key} of the training images"):
        resolve_metadata("w", [OPENAI, other], "quickgelu")


def test_rounded_values_agree():
    rounded = MetadataClaim("b", "quickgelu", (0.48145, 0.45783, 0.40821), (0.26863, 0.2613, 0.27578))
    assert resolve_metadata("w", [OPENAI, rounded], None).mean == OPENAI_MEAN


def test_nothing_said_is_openais_aloud():
    found = resolve_metadata("w", [], None)
    assert (found.activation, found.mean, found.std) == ("quickgelu", OPENAI_MEAN, OPENAI_STD)
    assert (found.activation_known, found.preprocessing_known) == (False, False)
    (warning,) = found.warnings
    assert "w does not say which activation it was trained with, nor the mean and std" in warning
    (warning,) = resolve_metadata("w", [MetadataClaim("a", mean=HALF, std=HALF)], None).warnings
    assert "nor the mean" not in warning
    (warning,) = resolve_metadata("w", [], "gelu").warnings
    assert "w does not say the mean and std of its training images: OpenAI's are assumed" in warning


@pytest.mark.parametrize(
    "value",
    [None, "0.5", 0.5, [], [0.5, 0.5], [0.5] * 4, [0.5, 0.5, "0.5"], [0.5, 0.5, float("nan")], [1e9] * 3],
)
def test_three_numbers_or_an_error(value):
    with pytest.raises(WeightsError, match="three numbers were wanted"):
        triple(value, "mean", "the config")


def test_a_std_is_above_zero():
    assert triple([0, 0.5, 1], "mean", "x") == (0.0, 0.5, 1.0)
    with pytest.raises(WeightsError, match="x gives std"):
        triple([0, 0.5, 1], "std", "x")

import pytest

from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, resolve_metadata, triple
from tagmask.errors import WeightsError

HALF = (0.5, 0.5, 0.5)
CONFIG = MetadataClaim("the config", "gelu", HALF, HALF)
OPENAI = MetadataClaim("the name", "quickgelu", OPENAI_MEAN, OPENAI_STD)
SILENT = MetadataClaim("the header")


def test_a_single_claim_is_used_without_a_warning():
    resolved = resolve_metadata("w", [SILENT, CONFIG], None)
    assert (resolved.activation, resolved.mean, resolved.std) == ("gelu", HALF, HALF)
    assert (resolved.activation_known, resolved.preprocessing_known, resolved.warnings) == (True, True, ())


def test_settings_may_come_from_different_claims():
    resolved = resolve_metadata(
        "w", [MetadataClaim("a", activation="gelu"), MetadataClaim("b", mean=HALF, std=HALF)], None
    )
    assert (resolved.activation, resolved.mean, resolved.warnings) == ("gelu", HALF, ())


def test_contradicting_claims_are_an_error_that_names_both():
    with pytest.raises(
        WeightsError,
        match=r"Conflicting activations for w: the name says quickgelu but the config says gelu\.",
    ):
        resolve_metadata("w", [OPENAI, CONFIG], None)


def test_the_caller_overrides_contradicting_claims_with_a_warning():
    mixed = [OPENAI, MetadataClaim("the config", "gelu")]
    resolved = resolve_metadata("w", mixed, "gelu")
    assert resolved.activation == "gelu"
    assert resolved.warnings == ("w runs with activation gelu as requested, but the name says quickgelu.",)


@pytest.mark.parametrize(("activation", "claim"), [("gelu", OPENAI), ("quickgelu", CONFIG)])
def test_the_caller_overrides_a_claim_with_a_warning(activation, claim):
    resolved = resolve_metadata("w", [claim], activation)
    assert (resolved.activation, resolved.activation_known) == (activation, True)
    assert len(resolved.warnings) == 1
    assert f"but {claim.by} says {claim.activation}" in resolved.warnings[0]


@pytest.mark.parametrize("key", ["mean", "std"])
def test_contradicting_mean_and_std_are_an_error(key):
    other = MetadataClaim("the config", "quickgelu", **{"mean": OPENAI_MEAN, "std": OPENAI_STD, key: HALF})
    with pytest.raises(WeightsError, match=f"Conflicting {key} for w: the name says"):
        resolve_metadata("w", [OPENAI, other], "quickgelu")


def test_rounded_values_agree():
    rounded = MetadataClaim("b", "quickgelu", (0.48145, 0.45783, 0.40821), (0.26863, 0.2613, 0.27578))
    assert resolve_metadata("w", [OPENAI, rounded], None).mean == OPENAI_MEAN


def test_without_claims_openais_settings_are_assumed_with_a_warning():
    resolved = resolve_metadata("w", [], None)
    assert (resolved.activation, resolved.mean, resolved.std) == ("quickgelu", OPENAI_MEAN, OPENAI_STD)
    assert (resolved.activation_known, resolved.preprocessing_known) == (False, False)
    (warning,) = resolved.warnings
    assert "w does not give its activation, mean and std; assuming OpenAI's (quickgelu)." in warning
    (warning,) = resolve_metadata("w", [MetadataClaim("a", mean=HALF, std=HALF)], None).warnings
    assert "w does not give its activation; assuming" in warning
    (warning,) = resolve_metadata("w", [], "gelu").warnings
    assert "w does not give its mean and std; assuming OpenAI's." in warning


@pytest.mark.parametrize(
    "value",
    [None, "0.5", 0.5, [], [0.5, 0.5], [0.5] * 4, [0.5, 0.5, "0.5"], [0.5, 0.5, float("nan")], [1e9] * 3],
)
def test_a_triple_is_three_numbers(value):
    with pytest.raises(WeightsError, match=r"the config gives mean = .* Expected three numbers"):
        triple(value, "mean", "the config")


def test_a_std_is_positive():
    assert triple([0, 0.5, 1], "mean", "x") == (0.0, 0.5, 1.0)
    with pytest.raises(WeightsError, match="x gives std"):
        triple([0, 0.5, 1], "std", "x")

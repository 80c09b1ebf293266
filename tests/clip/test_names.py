import re

import pytest

from tagmask.clip.names import KNOWN, known_weights
from tagmask.errors import WeightsError


@pytest.mark.parametrize("name", list(KNOWN))
def test_every_known_name_is_found(name):
    entry = known_weights(name)
    assert entry is KNOWN[name]
    assert entry.repos
    quick_gelu_name = name.replace(":", "-quickgelu:")
    if entry.activation == "quickgelu":
        assert known_weights(quick_gelu_name) is entry
    else:
        with pytest.raises(WeightsError, match="were trained with the exact GELU"):
            known_weights(quick_gelu_name)


def test_every_download_has_a_full_hash():
    for entry in KNOWN.values():
        if entry.url:
            assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
            assert entry.url.startswith("https://")
            assert entry.url.endswith(f"/{entry.file}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ViT-B-16",
            "'ViT-B-16' is an architecture without a tag. Use a tag, such as ViT-B-16:openai.",
        ),
        ("ViT-L-14-336:", "is an architecture without a tag"),
        ("ViT-B-16:openia", "Unknown tag 'openia' for ViT-B-16. Did you mean ViT-B-16:openai?"),
        ("ViT-B-16-quickgelu:x", "Unknown tag 'x' for ViT-B-16."),
    ],
)
def test_unknown_tags_are_refused(text, message):
    with pytest.raises(WeightsError) as error:
        known_weights(text)
    assert message in str(error.value)
    assert "tagmask weights list" in str(error.value)


@pytest.mark.parametrize(
    "text", ["", ":", "ViT-B-16.pt", "C:/ViT-B-16", "RN50:openai", "vit-b-16:openai", "a/b"]
)
def test_other_texts_are_not_names(text):
    assert known_weights(text) is None

"""Recipe files: round trips, defaults, invalid files."""

from dataclasses import replace
from pathlib import Path

import pytest

from tagmask.catalogue import method_names
from tagmask.errors import InputError
from tagmask.papers.clip_tags import ClipTagSettings
from tagmask.resolve import own_tag_recipe, recipe, recipes, tag_recipe
from tagmask.settings.files import write_recipe
from tagmask.settings.recipes import TagRecipe

TAGGING = [name for name in recipes() if isinstance(recipe(name), TagRecipe)]
WORDS = ("cat", 'a "quoted" dög, puppy\\', "tab\tand\x7f")


@pytest.mark.parametrize("name", TAGGING)
def test_preset_round_trip(name: str, tmp_path: Path) -> None:
    base = recipe(name)
    assert isinstance(base, TagRecipe)
    write_recipe(base, tmp_path / "r.toml")
    assert recipe(tmp_path / "r.toml") == base


@pytest.mark.parametrize("method", method_names("tags"))
def test_words_and_thresholds_round_trip(method: str, tmp_path: Path) -> None:
    base = replace(
        own_tag_recipe(method, WORDS, ("wall",)),
        thresholds=(0.25, None, 1e-7),
        top=2,
        tag_tau=0.3,
        min_score=0.5,
    )
    write_recipe(base, tmp_path / "r.toml")
    loaded = tag_recipe(str(tmp_path / "r.toml"), None, None, None, {})
    assert loaded == base
    assert recipe(tmp_path / "r.toml") == base


HEAD = 'words = ["cat", "dog"]\nbackground = []\ntemplates = ["a {}."]\n'


def read(tmp_path: Path, text: str) -> TagRecipe:
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    found = recipe(tmp_path / "r.toml")
    assert isinstance(found, TagRecipe)
    return found


def test_missing_settings_have_the_method_s_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, f'method = "clip"\n{HEAD}\n[thresholds]\ndog = 1\n')
    assert isinstance(found.variant, ClipTagSettings)
    assert (found.name, found.variant.softmax, found.tag_tau, found.thresholds) == (
        "clip",
        False,
        0.5,
        (None, 1.0),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("words = [", "is not valid TOML"),
        (HEAD + "colour = 3", "unknown setting colour of tagclip"),
        ('method = "magic"\n' + HEAD, "Unknown method 'magic'. See `tagmask methods`"),
        ('words = ["cat"]\ntemplates = ["{}"]', "lacks background"),
        ('words = []\nbackground = []\ntemplates = ["{}"]', "has no words or no templates"),
        (HEAD + 'tag_tau = "half"', "tag_tau is 'half'. Give a number"),
        (HEAD + "top = 1.5", "top is 1.5. Give a whole number"),
        (HEAD + "cwr = 1", "cwr is 1. Give true or false"),
        (HEAD + "name = true", "name is True. Give a text"),
        (HEAD + "attention_layers = [1, true]", "attention_layers is True. Give a whole number"),
        (HEAD.replace('["cat", "dog"]', '"cat"'), "words is 'cat'. Give a list"),
        (HEAD + "tag_tau = 7", "tag_tau is 7.0. Give a number, from 0 to 1"),
        (HEAD + "thresholds = 3", "invalid thresholds 3. Give a table"),
        (HEAD + "[thresholds]\ncow = 0.1", "has thresholds for cow, which are not among its words"),
        (HEAD + '[thresholds]\ncat = "x"', "invalid threshold 'x' of cat. Give a number"),
    ],
)
def test_invalid_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        recipe(str(tmp_path / "no.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read: it is not UTF-8 text"):
        recipe(tmp_path / "binary.toml")

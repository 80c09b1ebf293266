"""Recipes as files: what goes in comes out, and what does not belong is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from tagmask.errors import InputError
from tagmask.settings.kinds import AnyTagRecipe
from tagmask.settings.lookup import recipe, recipes, tag_recipe
from tagmask.settings.recipe_files import read_recipe, write_recipe
from tagmask.settings.taggers import TAG_METHODS, ClipTagRecipe, own_recipe

TAGGING = [name for name in recipes() if isinstance(recipe(name), AnyTagRecipe)]
WORDS = ("cat", 'a "quoted" dög, puppy\\', "tab\tand\x7f")


@pytest.mark.parametrize("name", TAGGING)
def test_every_recipe_of_the_tables_survives_a_file(name: str, tmp_path: Path) -> None:
    base = recipe(name)
    assert isinstance(base, AnyTagRecipe)
    write_recipe(base, tmp_path / "r.toml")
    assert read_recipe(tmp_path / "r.toml") == base


@pytest.mark.parametrize("method", TAG_METHODS)
def test_own_words_and_thresholds_survive_a_file(method: str, tmp_path: Path) -> None:
    base = replace(
        own_recipe(method, WORDS, ("wall",)), thresholds=(0.25, None, 1e-7), top=2, tag_tau=0.3, min_score=0.5
    )
    write_recipe(base, tmp_path / "r.toml")
    found = tag_recipe(str(tmp_path / "r.toml"), None, None, None, {})
    assert found == base
    assert type(found) is type(base)
    assert recipe(tmp_path / "r.toml") == base


HEAD = 'words = ["cat", "dog"]\nbackground = []\ntemplates = ["a {}."]\n'


def read(tmp_path: Path, text: str) -> AnyTagRecipe:
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    return read_recipe(tmp_path / "r.toml")


def test_what_is_left_out_is_as_the_method_has_it(tmp_path: Path) -> None:
    found = read(tmp_path, f'method = "clip"\n{HEAD}\n[thresholds]\ndog = 1\n')
    assert isinstance(found, ClipTagRecipe)
    assert (found.name, found.softmax, found.tag_tau, found.thresholds) == ("clip", False, 0.5, (None, 1.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("words = [", "is no TOML"),
        (HEAD + "colour = 3", "holds colour, which is no setting of tagclip"),
        ('method = "magic"\n' + HEAD, "has method 'magic'; give one of clip"),
        ('words = ["cat"]\ntemplates = ["{}"]', "lacks background"),
        ('words = []\nbackground = []\ntemplates = ["{}"]', "has no words or no templates"),
        (HEAD + 'tag_tau = "half"', "tag_tau = 'half'; give a number"),
        (HEAD + "top = 1.5", "top = 1.5; give a whole number"),
        (HEAD + "cwr = 1", "cwr = 1; give true or false"),
        (HEAD + "name = true", "name = True; give a text"),
        (HEAD + "attention_layers = [1, true]", "attention_layers = True; give a whole number"),
        (HEAD.replace('["cat", "dog"]', '"cat"'), "words = 'cat'; give a list of texts"),
        (HEAD + "tag_tau = 7", "tag_tau is 7.0; give a number, from 0 to 1"),
        (HEAD + "thresholds = 3", "has thresholds 3; give a table"),
        (HEAD + "[thresholds]\ncow = 0.1", "has thresholds for cow, none of its words"),
        (HEAD + '[thresholds]\ncat = "x"', "has 'x' as the threshold of cat; give a number"),
    ],
)
def test_what_does_not_belong_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        recipe(str(tmp_path / "no.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no TOML"):
        recipe(tmp_path / "binary.toml")

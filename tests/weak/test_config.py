"""Settings of training runs: reading, changing, errors."""

from pathlib import Path

import pytest

from tagmask.errors import InputError
from tagmask.weak.config import TrainConfig, fingerprint
from tagmask.weak.config_files import load_config, shipped_configs, with_settings


def test_shipped_settings_match_the_papers() -> None:
    voc = load_config("weakclip/voc")
    assert len(voc.model.words) == 21
    assert (voc.data.batch, voc.schedule.steps, voc.schedule.warmup) == (16, 20000, 1500)
    assert (voc.optimiser.lr, voc.optimiser.weight_decay, voc.schedule.floor) == (1e-4, 3e-5, 1e-6)
    coco = load_config("weakclip/coco")
    assert len(coco.model.words) == 81
    assert (coco.data.batch, coco.schedule.steps) == (24, 40000)
    assert coco.optimiser == voc.optimiser
    raw = load_config("weakclip/coco-raw91").model.words
    assert (len(raw), raw[13], raw[90]) == (91, "stop sign", "toothbrush")
    assert [word for word in raw if word in coco.model.words] == list(coco.model.words)
    deeplab = load_config("student/deeplab")
    assert (deeplab.optimiser.kind, deeplab.optimiser.momentum, deeplab.schedule.extra_steps) == (
        "sgd",
        0.9,
        1,
    )
    assert deeplab.augment.ratio == (0.5, 1.5)


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_file_is_read(name: str) -> None:
    assert load_config(name).model.kind


def test_a_file_changes_its_base(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('base = "weakclip/voc"\n[data]\nimages = "photos"\n[loss]\ncrf = 0\n')
    config = load_config(file, ["lr=3e-4", "augment.ratio=[1, 1.5]", "images=other"])
    assert config.data.images == "other"
    assert config.loss.crf == 0.0
    assert config.optimiser.lr == 3e-4
    assert config.augment.ratio == (1.0, 1.5)
    assert config.schedule.steps == 20000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.lrr=1", r"Unknown setting optimiser\.lrr\. Did you mean optimiser\.lr\?"),
        ("stps=1", r"Unknown setting stps\. Did you mean steps"),
        ("lr", r"has no value\. Give KEY=VALUE"),
        ("lr=fast", r"optimiser\.lr is 'fast'. Give a number"),
        ("lr=true", r"optimiser\.lr is True. Give a number"),
        ("lr=-1", r"optimiser\.lr is -1\.0. Give a number, 0 or more"),
        ("steps=1.5", r"schedule\.steps is 1\.5. Give a whole number"),
        ("ratio=[1]", r"augment\.ratio is \[1\]. Give 2 values"),
        ("ratio=[2, 1]", "the smaller first"),
        ("flip=yes", r"augment\.flip is 'yes'. Give a number"),
        ("seed=2", r"loss\.seed or run\.seed"),
        (
            "betas=[0.9, 1.0]",
            r"optimiser\.betas are \(0\.9, 1\.0\)\. Give two numbers, from 0 to less than 1",
        ),
        ("run.seed=99999999999999999999", r"run\.seed is '99999999999999999999'\. Give a whole number"),
        ("model.kind=nope", "Unknown model.kind 'nope'. Give one of weakclip, small"),
        ("freeze=all", "Unknown model.freeze 'all'. Give one of paper, repo, none"),
        ("loss.seed=0", r"are all 0\. Give at least one of them a weight"),
    ],
)
def test_invalid_changes_are_refused(change: str, message: str) -> None:
    config = with_settings(TrainConfig(), ["crf=0", "contrast=0"])
    with pytest.raises(InputError, match=message):
        with_settings(config, [change])


def test_none_is_an_ordinary_string() -> None:
    config = with_settings(TrainConfig(), ["freeze=none", "decoder=none"])
    assert (config.model.freeze, config.model.decoder) == ("none", "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optimizer]\nlr = 1\n", r"Unknown setting optimizer\. Did you mean optimiser"),
        ("optimiser = 1\n", r"optimiser is 1\. Give a table"),
        ("[model\n", "is not valid TOML"),
        ('base = "weakclip/vok"\n', "Did you mean weakclip/voc"),
        ('[model]\nwords = ["a", "a"]\n', "names a class twice"),
        ('[model]\nwords = ["a", 1]\n', "model.words is 1. Give a text"),
    ],
)
def test_invalid_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(file)


def test_a_file_that_is_its_own_base_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'base = "{file}"\n')
    with pytest.raises(InputError, match="base in"):
        load_config(file)


def test_fingerprint_covers_only_settings_that_affect_the_model() -> None:
    config = load_config("weakclip/voc")
    same = with_settings(config, ["workers=2", "log_every=3", "device=cuda"])
    other = with_settings(config, ["lr=2e-4"])
    assert fingerprint(config.fingerprint_fields()) == fingerprint(same.fingerprint_fields())
    assert fingerprint(config.fingerprint_fields()) != fingerprint(other.fingerprint_fields())

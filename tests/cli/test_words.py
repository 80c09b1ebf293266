"""`tagmask words`, and the values auto and none of --background."""

import json
from pathlib import Path

import pytest

import tagmask
from tagmask.pipelines.background_choice import choose_background
from tests.cli.conftest import noise_image
from tests.cli.running import run

WEIGHTS = ("--weights", "miniature", "--precision", "float32")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def test_check_says_what_competes_and_what_to_give_instead(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("cat\nkitten\nanimal\nsea\nred car\ncar\n")
    result = run("words", "check", "-w", f"@{file}", "-b", "water", "-b", "grass", *WEIGHTS)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert (
        'cat and kitten mean nearly the same (cosine 0.99): write them as one class, "cat, kitten".' in text
    )
    assert "animal contains cat, kitten: leave out animal, or name its other kinds instead." in text
    assert "sea competes with the background water (cosine 0.98): leave water out" in text
    assert 'Give instead: -w "cat, kitten" -w sea -w "car, red car"' in text
    rows = {row.split("  ")[0]: row.split() for row in result.stdout.splitlines() if "  " in row}
    assert rows["kitten"][1:] == ["0.99", "cat", *rows["kitten"][3:]]
    assert rows["sea"][-2:] == ["0.98", "water"]
    assert "Cosines in percent." in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert run("words", "check", "-w", f"@{file}", "-b", "none", "--strict", *WEIGHTS).exit_code == 1


def test_check_of_words_that_do_not_compete() -> None:
    result = run("words", "check", "-w", "cat", "-w", "boat", "--strict", *WEIGHTS)
    assert result.exit_code == 0
    assert "No words compete" in result.stdout
    assert "percent" not in result.stdout  # two words need no matrix
    alone = run("words", "check", "-w", "cat", "-b", "none", *WEIGHTS)
    assert alone.stdout.splitlines()[-1] == "cat"


def test_many_long_words_fit(tmp_path: Path) -> None:
    words = [f"a quite long word of number {i} that nobody uses" for i in range(12)]
    file = tmp_path / "words.txt"
    file.write_text("\n".join([*words, "cat", "cats"]))
    result = run("words", "check", "-w", f"@{file}", *WEIGHTS)
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if "-w" not in line)
    assert "percent" not in result.stdout  # a matrix of 14 words does not fit
    arguments = [line for line in lines if line.startswith("  -w")]
    assert len(arguments) > 3
    assert all(line.endswith(" \\") for line in arguments[:-1])
    file.write_text("\n".join(words))
    matrix = run("words", "check", "-w", f"@{file}", *WEIGHTS).stdout
    assert "percent" in matrix
    assert all(len(line) <= 80 for line in matrix.splitlines() if "-w" not in line)


def test_check_as_json() -> None:
    options = ("-w", "cat", "-w", "cats", "-w", "hat", "-b", "auto", "--json")
    record = json.loads(run("words", "check", *options, *WEIGHTS).stdout)
    assert record["words"] == ["cat", "cats", "hat"]
    assert record["background"] == list(choose_background(tagmask.load("miniature"), record["words"]))
    (finding,) = record["findings"]
    assert (finding["kind"], finding["words"]) == ("plural", ["cat", "cats"])
    assert record["instead"] == ["cat, cats", "hat"]
    assert record["cosines"][0][1] == finding["cosine"]
    assert len(record["to_background"][2]) == len(record["background"])


def test_background_prints_a_file_for_background(tmp_path: Path) -> None:
    result = run("words", "background", "-w", "cat", "-w", "boat", *WEIGHTS)
    assert result.exit_code == 0, result.output
    names = result.stdout.splitlines()
    assert names == list(choose_background(tagmask.load("miniature"), ["cat", "boat"]))
    photo, file = tmp_path / "a.png", tmp_path / "names.txt"
    noise_image(0).save(photo)
    file.write_text(result.stdout)
    settings = []
    for out, background in (("file", f"@{file}"), ("auto", "auto")):
        done = run("mask", photo, "-w", "cat", "-w", "boat", "-b", background, "-o", tmp_path / out, *WEIGHTS)
        assert done.exit_code == 0, done.output
        assert (f"Background: {len(names)} words chosen" in done.stderr) == (out == "auto")
        settings.append(json.loads((tmp_path / out / "run.json").read_text()))
    assert settings[0]["fields"]["background"] == names
    assert settings[0]["fingerprint"] == settings[1]["fingerprint"]


def test_none_is_no_background(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    noise_image(0).save(photo)
    options = ("-w", "cat", "-w", "boat", *WEIGHTS)
    none = run("tag", photo, *options, "-b", "none", "--json").stdout
    assert none == run("tag", photo, *options, "--no-background", "--json").stdout
    assert none != run("tag", photo, *options, "-b", "auto", "--json").stdout
    assert none != run("tag", photo, *options, "--json").stdout


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("words", "check"), "No words are given"),
        (("words", "background"), "No words are given"),
        (("words", "check", "-w", "cat", "-w", "cat"), "'cat' twice"),
        (("words", "check", "-w", "sky", "-b", "sky"), "both a word and a background text"),
        (("words", "check", "-w", "cat", "-b", "auto", "-b", "sky"), "auto excludes other background words"),
        (("mask", ".", "-w", "cat", "-b", "sky", "-b", "none", "-o", "x"), "none excludes other"),
        (("tag", ".", "-w", "cat", "-b", "auto", "--no-background"), "exclude each other"),
    ],
)
def test_invalid_requests_are_refused_before_weights_are_loaded(
    arguments: tuple[str, ...], match: str
) -> None:
    result = run(*arguments, "--weights", "absent.pt")
    assert result.exit_code == 2
    assert match in result.stderr


@pytest.mark.parametrize("command", [(), ("check",), ("background",)])
def test_help_fits(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("words", *command, "--help").stdout
    assert shown
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize(
    "command",
    [
        ("train", "seeds", "{photo}", "-o", "{out}"),
        ("maps", "{photo}", "-o", "{out}.png"),
        ("maps", "{photo}", "--of", "masks", "-o", "{out}.png"),
        ("mask", "{photo}", "--compare", "clip,sclip", "-o", "{out}"),
        ("prompts", "select", "--images", "{folder}", "--tags-file", "{tags}", "--templates", "{templates}"),
    ],
    ids=" ".join,
)
def test_every_command_with_a_background_chooses_one(command: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo, tags, templates = folder / "a.png", tmp_path / "tags.txt", tmp_path / "templates.txt"
    noise_image(0, (64, 64)).save(photo)
    tags.write_text("a 0 1\n")
    templates.write_text("a {}.\nthe {}.\n")
    places = {"photo": photo, "folder": folder, "tags": tags, "templates": templates, "out": tmp_path / "out"}
    arguments = [part.format(**places) for part in command]
    result = run(*arguments, "-w", "cat", "-w", "boat", "-b", "auto", *WEIGHTS)
    assert result.exit_code == 0, result.output
    names = choose_background(tagmask.load("miniature"), ["cat", "boat"])
    assert f"Background: {len(names)} words chosen" in result.stderr
    if command[0] == "train":
        fields = json.loads((tmp_path / "out" / "run.json").read_text())["fields"]
        assert fields["background"] == list(names)

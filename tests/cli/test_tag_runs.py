"""`tagmask tag -o`: a file or a run folder, devices, pipes and links; going on."""

import csv
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tagmask import Run, Tagger, Tags
from tests.cli.conftest import Command, noise_image

WORDS = ("-w", "cat", "-w", "dog", "-b", "wall")
NAMES = ("a.png", "b.png", "sub/a.png")


def records(text: str) -> list[dict[str, object]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def paths(text: str) -> list[str]:
    return [str(record["path"]) for record in records(text)]


# -- what -o names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tags.jsonl", "tags.json", "tags.txt", "new/TAGS.JSONL"])
def test_a_new_name_with_the_ending_of_a_file_is_json_lines(
    name: str, few_photos: Path, tmp_path: Path, command: Command
) -> None:
    result = command("tag", few_photos, *WORDS, "-o", tmp_path / name)
    assert paths((tmp_path / name).read_text()) == [str(few_photos / name) for name in NAMES]
    assert f"written to {tmp_path / name}" in result.stderr


def test_csv_by_its_ending(few_photos: Path, tmp_path: Path, command: Command) -> None:
    (few_photos / "c.png").write_text("no image")
    out = tmp_path / "tags.csv"
    command("tag", few_photos, *WORDS, "-o", out, code=1)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [
        str(few_photos / n) for n in ("a.png", "b.png", "c.png", "sub/a.png")
    ]
    assert set(rows[0]) == {"path", "tags", "threshold", "scores", "error"}
    assert rows[0]["scores"].startswith("cat=")
    assert rows[0]["error"] == ""
    assert (rows[2]["tags"], rows[2]["scores"]) == ("", "")
    assert rows[2]["error"] != ""


@pytest.mark.parametrize(
    ("name", "existing"), [("tags", False), ("tags.v2", False), ("tags", True), ("tags.jsonl", True)]
)
def test_anything_else_is_a_run_folder(
    name: str, existing: bool, few_photos: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / name
    if existing:
        out.mkdir()
    command("tag", few_photos, *WORDS, "-o", out)
    with Run(out) as run:
        assert (run.kind, len(run), run.words) == ("tag", 3, ("cat", "dog"))
        for row in run:
            assert set(row.scores or ()) == {"cat", "dog"}
            assert set(row.tags or ()) | set(row.absent or ()) == {"cat", "dog"}


def test_format_beats_the_ending(few_photos: Path, tmp_path: Path, command: Command) -> None:
    (few_photos / "sub" / "a.png").rename(few_photos / "sub" / "c.png")
    arguments = ("tag", few_photos, *WORDS)
    command(*arguments, "-o", tmp_path / "tags.csv", "--format", "json")
    assert len(records((tmp_path / "tags.csv").read_text())) == 3
    command(*arguments, "-o", tmp_path / "plain", "--format", "csv")
    assert (tmp_path / "plain").read_text().startswith("path,tags,threshold,scores,error\n")
    command(*arguments, "-o", tmp_path / "tags.txt", "--format", "paper")
    assert [line.split()[0] for line in (tmp_path / "tags.txt").read_text().splitlines()] == ["a", "b", "c"]


def test_an_existing_file_is_one_file_whatever_its_ending(
    few_photos: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "tags").write_text("earlier tags")
    command("tag", few_photos, *WORDS, "-o", tmp_path / "tags")
    assert len(records((tmp_path / "tags").read_text())) == 3


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_a_pipe_gets_every_line(few_photos: Path, tmp_path: Path, command: Command) -> None:
    pipe, read = tmp_path / "pipe.jsonl", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    command("tag", few_photos, *WORDS, "-o", pipe)
    reader.join(timeout=10)
    assert paths(read[0]) == [str(few_photos / name) for name in NAMES]
    assert pipe.is_fifo()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.skipif(os.name == "nt", reason="devices")
def test_stdout_as_a_file(few_photos: Path, capfd: pytest.CaptureFixture[str], command: Command) -> None:
    command("tag", few_photos, *WORDS, "-o", "/dev/stdout")
    assert paths(capfd.readouterr().out) == [str(few_photos / name) for name in NAMES]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_is_followed_and_stays(few_photos: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real.jsonl", tmp_path / "link.jsonl"
    target.write_text("earlier")
    link.symlink_to(target)
    command("tag", few_photos, *WORDS, "-o", link)
    assert link.is_symlink()
    assert len(records(target.read_text())) == 3
    run = tmp_path / "run"
    run.symlink_to(tmp_path / "there", target_is_directory=True)
    command("tag", few_photos, *WORDS, "-o", run)
    assert run.is_symlink()
    assert (tmp_path / "there" / "run.json").exists()


def test_again_and_shard_need_a_run_folder(few_photos: Path, tmp_path: Path, command: Command) -> None:
    for option in (("--again",), ("--shard", "1/2")):
        refused = command("tag", few_photos, *WORDS, "-o", tmp_path / "tags.csv", *option, code=2)
        assert "need a run folder" in refused.stderr
        assert not (tmp_path / "tags.csv").exists()


# -- runs of tags ------------------------------------------------------------------------------------------


def test_the_same_command_goes_on(few_photos: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "run"
    (few_photos / "c.png").write_text("no image")
    arguments = ("tag", few_photos, *WORDS, "-o", out, "--json")
    first = command(*arguments, code=1)
    assert len(records(first.stdout)) == 3
    noise_image(8).save(few_photos / "c.png")
    second = command(*arguments)
    assert "3 of 4 were done; 1 failed before and are tried again." in second.stderr
    assert paths(second.stdout) == [str(few_photos / "c.png")]
    assert len(records(command(*arguments, "--again").stdout)) == 4
    refused = command("tag", few_photos, "-w", "cow", "-w", "cat", "-b", "wall", "-o", out, code=2)
    assert "holds a run with other settings" in refused.stderr
    assert "cow" in refused.stderr
    other = command("mask", few_photos, *WORDS, "-o", out, code=2)
    assert "settings" in other.stderr


def test_shards_of_tags_merge_to_the_whole(few_photos: Path, tmp_path: Path, command: Command) -> None:
    def rows(run: Path) -> list[tuple[object, ...]]:
        with Run(run) as read:
            return [(row.key, row.tags, row.scores, row.record) for row in read]

    for number in range(4):
        noise_image(20 + number).save(few_photos / f"n{number}.png")
    arguments = ("tag", few_photos, *WORDS, "-o")
    command(*arguments, tmp_path / "whole")
    for number in (1, 2):
        command(*arguments, tmp_path / str(number), "--shard", f"{number}/2")
    command("merge", tmp_path / "1", tmp_path / "2", "-o", tmp_path / "all")
    assert rows(tmp_path / "all") == rows(tmp_path / "whole")


def test_scores_that_are_no_numbers_never_reach_json(
    few_photos: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_numbers(tagger: Tagger, image: object) -> Tags:
        scores = np.array([np.nan, 0.5], np.float32)
        return Tags(words=("cat", "dog"), scores=scores, chosen=(1,), threshold=0.2, precision="float32")

    monkeypatch.setattr(Tagger, "__call__", no_numbers)
    for out in (tmp_path / "run", tmp_path / "tags.jsonl", tmp_path / "tags.csv"):
        result = command("tag", few_photos, *WORDS, "-o", out, "--json", code=1)
        assert "3 failed" in result.stderr
        assert all("error" in record for record in records(result.stdout))
    with Run(tmp_path / "run") as run:
        assert run.counts["failed"] == 3
    assert all(
        "check the weights" in str(each["error"]) for each in records((tmp_path / "tags.jsonl").read_text())
    )
    with (tmp_path / "tags.csv").open(newline="") as file:
        assert [row["scores"] for row in csv.DictReader(file)] == ["", "", ""]


def test_one_word_is_warned_of(few_photos: Path, tmp_path: Path, command: Command) -> None:
    note = "With one word, every image is tagged 'cat'"
    for out in ((), ("-o", tmp_path / "run")):
        said = command("tag", few_photos, "-w", "cat", "-b", "wall", *out).stderr
        assert note in said
        assert "--min-score" in said
        assert "--calibrate" in said
    assert note not in command("tag", few_photos, "-w", "cat", "-b", "wall", "--min-score", 0.1).stderr
    assert note not in command("tag", few_photos, *WORDS).stderr


@pytest.mark.skipif(os.name == "nt", reason="names")
def test_control_characters_are_escaped(tmp_path: Path, command: Command) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise_image(0).save(photos / "a\x1b[31mb.png")
    for arguments in ((), ("--json",), ("-o", tmp_path / "run"), ("-o", tmp_path / "run2", "--json")):
        result = command("tag", photos, *WORDS, *arguments)
        assert "\x1b" not in result.output
        if "--json" in arguments:
            assert paths(result.stdout) == [str(photos / "a\x1b[31mb.png")]

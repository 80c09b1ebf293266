"""What is answered to usual typing mistakes: one short line that names the mistake, and what was meant."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagmask.cli.main import app

MASK = "mask photos -w cat --weights miniature --out run"
MISTAKES = {
    "command": ("msk photos -w cat", "Unknown command 'msk' of tagmask. Did you mean mask?"),
    "subcommand": ("weights lst", "Unknown command 'lst' of tagmask weights. Did you mean list?"),
    "option": (
        "mask photos --wrd cat --weights miniature --out run",
        "Unknown option --wrd. Did you mean --word or --shard?",
    ),
    "option's value": (
        f"{MASK} --refine pmar",
        "Unknown --refine 'pmar'. Did you mean pamr? Give one of none, pamr, tlp, crf.",
    ),
    "method": (f"{MASK} --method slip", "Unknown method 'slip'. Did you mean sclip? See `tagmask methods`."),
    "recipe": (
        f"{MASK} --recipe sclip/voc12",
        "Unknown recipe 'sclip/voc12'. Did you mean sclip/voc21 or sclip/voc20 or clip/voc2012?",
    ),
    "weights": (
        "mask photos -w cat --weights minature --out run",
        "Unknown weights minature. Did you mean miniature?",
    ),
    "weights' tag": (
        "mask photos -w cat --weights ViT-B-16:openia --out run",
        "Unknown tag 'openia' for ViT-B-16. Did you mean ViT-B-16:openai? See `tagmask weights list`, or use "
        "hf:OWNER/REPO.",
    ),
    "weights' file": (
        "mask photos -w cat --weights ViT-B-16.pt --out run",
        "Unknown weights ViT-B-16.pt: no such file. Did you mean the name ViT-B-16:openai?",
    ),
    "data set": (
        "data check voc2O12 .",
        "Unknown data set 'voc2O12'. Did you mean voc2012 or voc21 or voc20? See `tagmask data list`.",
    ),
    "format": (
        "export photos --to cooc",
        "Unknown format 'cooc'. Did you mean coco? Give one of coco, coco-panoptic, csv, cvat, folder, hf, "
        "report, voc, yolo, label-studio, labelme.",
    ),
    "word option": (
        "tag photos -w @word.txt",
        "The words file word.txt cannot be read: No such file or directory. Did you mean words.txt? "
        "Give @FILE with one word per line.",
    ),
    "device": (
        f"{MASK} --device cdua",
        "Unknown device 'cdua'. Did you mean cuda? Use 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.",
    ),
    "path": (
        "mask phtos -w cat --weights miniature --out run",
        "There is no file or folder phtos. Did you mean photos?",
    ),
    "glob": (
        "mask photos/*.jpeg -w cat --weights miniature --out run",
        "No files match photos/*.jpeg.",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_short_answer(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "words.txt").write_text("cat\n")
    monkeypatch.chdir(tmp_path)
    command, answer = MISTAKES[mistake]
    result = CliRunner().invoke(app, command.split(), prog_name="tagmask")
    first, *details = result.stderr.splitlines()
    assert result.exit_code == 2, result.output
    assert first == f"tagmask: {answer}"
    assert len(details) <= 3
    assert all(len(line) <= 160 for line in (first, *details))
    assert result.stdout == ""
    assert not list((tmp_path / "run").glob("*"))

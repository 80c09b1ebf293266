"""Hugging Face data sets: tags, splits and Parquet; the contract reads the masks back."""

import json
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.exporters.options import split_of
from tagmask.masks import index_png
from tagmask.runs.reader import Run
from tests.cli.running import run as tagmask
from tests.exporters.made_runs import WORDS, masks, write_photos, write_run

SPLITS = {"train": 0.8, "val": 0.2}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", write_photos(tmp_path / "photos", masks()), masks())


def rows(metadata: Path) -> dict[str, dict[str, object]]:
    lines = map(json.loads, metadata.read_text(encoding="utf-8").splitlines())
    return {line["name"]: line for line in lines}


def test_tags_of_a_corrected_mask_are_its_own(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "corrected").mkdir()
    (run_folder / "corrected/holes.png").write_bytes(index_png(np.full((40, 60), 3, np.uint8)))
    with Run(run_folder) as run:
        out = run.export("hf", tmp_path / "out", photos="none")
    read = rows(out / "train/metadata.jsonl")
    assert read["holes.png"]["tags"] == [WORDS[3]]
    assert read["empty.jpg"]["tags"] == []
    assert json.loads((out / "id2label.json").read_text()) == {str(i): w for i, w in enumerate(WORDS)}


def test_only_splits_with_images_are_named(run_folder: Path, tmp_path: Path) -> None:
    with Run(run_folder) as run:
        out = run.export("hf", tmp_path / "out", splits={"train": 1.0, "val": 0.0})
    assert not (out / "val").exists()
    card = (out / "README.md").read_text().split("---")[1]
    assert card.splitlines()[1:] == [
        "configs:", "- config_name: default", "  data_files:", "  - split: train", "    path: train/**",
    ]  # fmt: skip


def test_a_split_without_tags_next_to_others_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with Run(run_folder) as run:
        keys = [row.key for row in run]
        (empty,) = [key for key in keys if key.endswith("empty.jpg")]
        in_val = ([key for key in keys if split_of(key, SPLITS, seed) == "val"] for seed in range(200))
        seed = next(seed for seed, chosen in enumerate(in_val) if chosen == [empty])
        with pytest.raises(InputError, match=r"No image of the split 'val' has a tag"):
            run.export("hf", tmp_path / "out", splits=SPLITS, seed=seed)
    assert not list((tmp_path / "out").glob("*"))


def test_parquet_without_pyarrow_is_refused_before_anything_is_written(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: None if name == "pyarrow" else True)
    result = tagmask("export", run_folder, "--to", "csv,hf", "--parquet", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "pip install 'tagmask[parquet]'" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_parquet_is_an_option_of_hf_alone(run_folder: Path) -> None:
    result = tagmask("export", run_folder, "--to", "csv", "--parquet")
    assert result.exit_code == 2
    assert "--parquet is an option of hf" in " ".join(result.stderr.split())

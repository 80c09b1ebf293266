"""The ablations of WeakCLIP: every row is measured, a stopped run goes on, the table says what it knows."""

import json
from pathlib import Path

import pytest
from benchmarks.weak_ablation import (
    ROWS,
    SEEDS,
    TABLES,
    Experiment,
    Measured,
    main,
    markdown,
    order_of,
    repeated,
)

from benchmarks import weak_ablation
from tagmask.data.miniature import scene_mask
from tagmask.masks import index_png
from tagmask.runtime.folders import FoundImage
from tagmask.weak.config_files import load_config
from tagmask.weak.training_folder import read_metadata

SMALL = ("batch=2", "crop=64", "base_short=64", "loss.size=16")
TINY = ["--images", "2", "--steps", "4", "--seeds", "2", *(p for change in SMALL for p in ("--set", change))]

CONDITIONS = {"images": 100, "steps": 1600, "changes": [], "weights": "0123456789ab"}


def test_tables_have_the_paper_s_rows_and_known_settings() -> None:
    assert [list(TABLES[name].values()) for name in TABLES] == [
        [60.0, 58.1, 12.3, 67.4, 68.9, 70.3, 72.6],
        [68.7, 71.3, 74.0],
    ]
    assert {key for paper in TABLES.values() for key in paper} == {SEEDS, *ROWS}
    for row in ROWS.values():
        load_config("weakclip/miniature", row.changes)


def test_a_stopped_run_goes_on_and_measures_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {key: ROWS[key] for key in ("fixed", "unfixed", "prompts", "whole")}
    monkeypatch.setattr(weak_ablation, "ROWS", rows)
    monkeypatch.setattr(weak_ablation, "TABLES", {"Parts": {key: TABLES["Parts"][key] for key in rows}})
    real, trained = weak_ablation.train_weakclip, []

    def stopping(config, folder, **options):
        if folder.name == "prompts-504" and not trained.count("prompts-504"):
            trained.append(folder.name)
            raise KeyboardInterrupt
        trained.append(folder.name)
        return real(config, folder, **options)

    monkeypatch.setattr(weak_ablation, "train_weakclip", stopping)
    with pytest.raises(KeyboardInterrupt):
        main([str(tmp_path), *TINY])
    capsys.readouterr()
    main([str(tmp_path), *TINY, "--table"])
    assert "| + learnable prompts | not finished | | | | 68.9 | |" in capsys.readouterr().out
    main([str(tmp_path), *TINY])
    assert trained == [
        "fixed-504", "unfixed-504", "prompts-504",
        "prompts-504", "whole-504", "unfixed-505", "prompts-505", "whole-505",
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "7 of 7: + scores shown to the decoder (the whole), seed 505" in printed
    page = (tmp_path / "table.md").read_text()
    assert page.strip() in printed
    assert "not finished" not in page
    lines = {line.split("|")[1].strip(): line.split("|") for line in page.splitlines() if line[:2] == "| "}
    assert "±" not in lines["CLIP fixed"][2]  # nothing is random in it
    assert lines["CLIP unfixed, seed loss"][2].strip().endswith("(2)")
    assert lines["seeds: CLIP-ES, true tags"][3].strip() != ""
    record = json.loads((tmp_path / "results" / "whole-505.json").read_text())
    assert [step for step, _ in record["curve"]] == [1, 2, 3, 4]
    # The last validation and the masks that were written agree.
    assert record["curve"][-1][1] == pytest.approx(record["plain"])
    assert 0 <= record["repeated"] <= 100
    assert read_metadata(tmp_path / "fixed-504", "weakclip")["steps"] == 0
    # Four crops of each image for each random seed: rows with a frozen CLIP share their features.
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == 2 * 4 * 2
    with pytest.raises(SystemExit, match="Give the same options"):
        main([str(tmp_path), *TINY, "--steps", "9"])


def test_wrong_pixels_of_the_seeds_are_counted_where_masks_repeat_them(tmp_path: Path) -> None:
    truth = scene_mask(5)
    seeds, masks = truth.copy(), truth.copy()
    seeds[:2, :10] = (truth[:2, :10] + 1) % 9  # 20 are wrong,
    seeds[2, :10] = 255  # 10 have no label,
    masks[0, :5] = seeds[0, :5]  # 5 of the wrong ones are repeated,
    masks[2:5, :10] = 255  # and other mistakes do not count.
    for name, labels in ((SEEDS, seeds), ("row", masks)):
        (tmp_path / name / "masks").mkdir(parents=True)
        (tmp_path / name / "masks" / "5.png").write_bytes(index_png(labels))
    experiment = Experiment(tmp_path, (FoundImage(Path("5.png"), Path("5.png")),), 1600, 1, ())
    assert repeated(experiment, "row") == 25
    assert repeated(experiment, SEEDS) == 100


def test_rows_are_measured_seed_by_seed(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path, (), 1600, 3, ())
    runs = experiment.runs()
    assert len(runs) == 3 * len(ROWS) - 2
    assert [run for run in runs if run[0] == "fixed"] == [("fixed", 504)]
    assert [key for key, seed in runs if seed == 504] == list(ROWS)


def test_order_is_decided_by_all_random_seeds() -> None:
    paper = {"a": 10.0, "b": 20.0, "c": 30.0}

    def order(key: str, **found: tuple[float, ...]) -> str:
        return order_of(key, paper, {name: Measured(values, ()) for name, values in found.items()})

    assert order("a", a=(1, 2, 3), b=(2, 3, 4), c=(5, 6, 7)) == "yes"
    assert order("a", a=(1, 4, 3), b=(2, 3, 4), c=(5, 6, 7)) == "open: b"
    assert order("c", a=(1, 2, 3), b=(9, 9, 9), c=(5, 6, 7)) == "no: under b"
    assert order("b", a=(1, 2, 3), b=(9, 9, 9), c=(5, 6, 7)) == "no: over c"
    assert order("b", a=(3,), b=(1, 2), c=(5, 6, 7)) == "no: under a"
    assert order("b", a=(1.5,), b=(1, 2), c=(5, 6)) == "open: a"
    assert order("a", a=(1,), b=(2,)) == "open: b"  # one seed decides nothing
    assert order("a", b=(2, 3)) == ""
    assert order("a", a=(2, 3)) == ""


def test_the_table_shows_spread_and_change() -> None:
    found = {
        SEEDS: Measured((46.8,), (50.0,)),
        "whole": Measured((60.0, 62.0, 64.0), (61.0, 63.0, 65.0), (20.0, 22.0, 24.0), (0.5, 0.3, 0.1)),
        "seed": Measured((50.0, 51.0, 52.0), (51.0, 52.0, 53.0), (), (-0.5, 0.3, 0.1)),
    }
    lines = markdown(found, CONDITIONS)
    assert "| seeds: CLIP-ES, true tags | 46.8 | 50.0 |  |  | 60.0 | yes |" in lines
    whole = (
        "| + scores shown to the decoder (the whole) "
        "| 62.0 ± 2.0 (3) | 63.0 ± 2.0 | 22.0 ± 2.0 % | +0.3 ± 0.2 | "
    )
    assert [line for line in lines if line.startswith(whole)] == [
        f"{whole}72.6 | yes |",
        f"{whole}74.0 | yes |",
    ]
    assert "| + divergence from the CRF | not finished | | | | 71.3 | |" in lines
    assert lines[0].startswith("100 images, 1600 steps. mIoU")
    assert "with the bundled model `0123456789ab`" in lines[2]

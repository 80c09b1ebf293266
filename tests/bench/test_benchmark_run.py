"""Benchmark runs: scores do not depend on interruptions, and partial scores are marked as partial."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask import Segmenter, Tagger, load
from tagmask.bench.benchmark_run import Run, other_weights, run_benchmark
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.protocol import Protocol
from tagmask.bench.summary import Summary, summarise
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.runs import reader
from tagmask.runs.failures import RepeatedFailure
from tagmask.runs.folder import RunStopped
from tagmask.runs.identity import to_json
from tagmask.runs.planning import Plan
from tagmask.runs.producer import Produced
from tagmask.settings.presets.own_words import own_tag_first
from tagmask.settings.recipes import MaskRecipe
from tests.bench.worlds import WORDS, broken, mask_recipe, picture, sample, tagging, truth, world

MASKS, TAGS = Protocol(recipe=mask_recipe()), Protocol(recipe=tagging(), metric="map")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load("miniature", device="cpu")


def stopped_after(count: int):
    def watch(produced: Iterable[Produced], plan: Plan) -> Iterator[Produced]:
        for i, each in enumerate(produced, start=1):
            yield each
            if i == count:
                raise KeyboardInterrupt

    return watch


def same(one: Summary, other: Summary) -> bool:
    return repr(one) == repr(other)  # repr: NaN equals NaN, and every digit is compared


def records(folder: Path) -> dict[str, dict[str, object] | None]:
    """The record of each image that was done or failed."""
    with reader.Run(folder) as run:
        return {row.key: row.record for row in run if row.status != "todo"}


def test_score_is_that_of_all_pixels(clip: Clip, tmp_path: Path) -> None:
    summary = run_benchmark(clip, Run(protocol=MASKS, dataset=world()), tmp_path)
    segmenter, matrix = Segmenter(clip, recipe=MASKS.recipe), ConfusionMatrix(4)
    for seed in range(6):
        matrix.update(segmenter(picture(seed)).labels, truth(seed))
    assert summary.scores["miou"] == 100 * matrix.miou()
    np.testing.assert_array_equal(list(summary.classes.values()), 100 * matrix.iou())
    assert list(summary.classes) == ["background", *WORDS]
    assert (summary.scored, summary.requested, summary.partial, summary.failures) == (6, 6, (), ())


@pytest.mark.parametrize("protocol", [MASKS, TAGS], ids=["masks", "tags"])
def test_workers_and_interruptions_do_not_change_the_score(
    clip: Clip, tmp_path: Path, protocol: Protocol
) -> None:
    run = Run(protocol=protocol, dataset=world(9))
    whole = run_benchmark(clip, run, tmp_path / "one")
    assert same(run_benchmark(clip, run, tmp_path / "two", workers=2), whole)
    assert records(tmp_path / "two") == records(tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(clip, run, tmp_path / "stopped", workers=2, watch=stopped_after(4))
    half = summarise(tmp_path / "stopped", protocol, run.dataset)
    assert half.partial == ("5 of 9 images were not scored",)
    assert same(run_benchmark(clip, run, tmp_path / "stopped", resume=True), whole)


KILLED = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tagmask import load
from tagmask.bench.protocol import Protocol
from tagmask.bench.benchmark_run import Run, run_benchmark
from tests.bench.worlds import mask_recipe, world

def slowly(produced, plan):
    for each in produced:
        yield each
        time.sleep(0.05)

run = Run(protocol=Protocol(recipe=mask_recipe()), dataset=world(200))
run_benchmark(load("miniature", device="cpu"), run, Path(sys.argv[1]), workers=2, watch=slowly)
"""


def test_killed_process_keeps_written_records(clip: Clip, tmp_path: Path) -> None:
    killed, done = tmp_path / "killed", {}
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(killed)], env=environ) as process:
        try:
            deadline = time.monotonic() + 120
            while len(done) < 5:
                with suppress(InputError):  # until the run has begun
                    done = records(killed)
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
    written = _updated(killed)
    assert set(done) <= set(written)
    run = Run(protocol=MASKS, dataset=world(200), limit=max(12, 1 + len(written)))
    resumed = run_benchmark(clip, run, killed, resume=True)
    assert written.items() < _updated(killed).items()  # none was made again
    assert not list(killed.glob(".tagmask-*"))
    assert same(resumed, run_benchmark(clip, run, tmp_path / "whole"))


def _updated(folder: Path) -> dict[str, float | None]:
    with reader.Run(folder) as run:
        return {row.key: row.updated for row in run.select(status="done")}


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_goes_on(clip: Clip, tmp_path: Path) -> None:
    run, refused = Run(protocol=MASKS, dataset=world(4)), []
    whole = run_benchmark(clip, run, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(clip, run, tmp_path / "run", watch=stopped_after(1))

    def another(produced: Iterable[Produced], plan: Plan) -> Iterator[Produced]:
        for each in produced:
            with pytest.raises(InputError, match=rf"is being written by process {os.getpid()} on "):
                run_benchmark(clip, run, tmp_path / "run", resume=True)
            refused.append(each.task.key)
            yield each

    assert same(run_benchmark(clip, run, tmp_path / "run", resume=True, watch=another), whole)
    assert refused == ["image-1", "image-2", "image-3"]


def test_a_folder_that_is_replaced_during_the_run_stops_it(clip: Clip, tmp_path: Path) -> None:
    run = Run(protocol=MASKS, dataset=world(4))

    def replaced(produced: Iterable[Produced], plan: Plan) -> Iterator[Produced]:
        for i, each in enumerate(produced):
            yield each
            if i == 1:
                (tmp_path / "run").rename(tmp_path / "moved")
                run_benchmark(clip, run, tmp_path / "run", watch=None)

    with pytest.raises(RunStopped, match="deleted, moved or taken over"):
        run_benchmark(clip, run, tmp_path / "run", watch=replaced)
    assert list(records(tmp_path / "moved")) == ["image-0", "image-1"]
    assert summarise(tmp_path / "run", MASKS, run.dataset).scored == 4


def test_any_exception_is_its_images_failure(clip: Clip, tmp_path: Path) -> None:
    def faulty() -> np.ndarray:
        raise AssertionError("no palette")

    bad = sample(20, read_image=faulty)
    summary = run_benchmark(clip, Run(protocol=MASKS, dataset=world(3, bad)), tmp_path / "one")
    assert [(f.id, f.kind, f.reason) for f in summary.failures] == [
        ("image-20", "unexpected", "unexpected AssertionError: no palette")
    ]
    assert summary.scored == 3
    everything = world(0, *(sample(i, read_image=faulty) for i in range(30)))
    with pytest.raises(RepeatedFailure, match="20 images in a row"):
        run_benchmark(clip, Run(protocol=MASKS, dataset=everything), tmp_path / "all")
    assert "no palette" in (tmp_path / "all" / "run.log").read_text()


def test_ids_may_be_any_text(clip: Clip, tmp_path: Path) -> None:
    ids = ("a/b", "a//b", "A", "a", "\udce9", "\\xe9", "\x1b[1m", str(tmp_path))
    data = world(0, *(replace(sample(i), id=name) for i, name in enumerate(ids)))
    run = Run(protocol=MASKS, dataset=data)
    assert run_benchmark(clip, run, tmp_path / "run").scored == len(ids)
    assert run_benchmark(clip, run, tmp_path / "run", resume=True).scored == len(ids)


def test_files_that_tagmask_did_not_write_are_not_overwritten(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "result.md").write_text("mine")
    with pytest.raises(InputError, match=r"result\.md is in the way"):
        run_benchmark(clip, Run(protocol=MASKS, dataset=world(1)), tmp_path)
    assert (tmp_path / "result.md").read_text() == "mine"


def test_failed_images_are_listed_and_the_score_is_partial(clip: Clip, tmp_path: Path) -> None:
    bad = [
        sample(20, read_image=broken()),
        sample(21, read_mask=None),
        sample(22, read_mask=lambda: np.zeros((3, 3), np.uint8)),
        sample(23, read_mask=None),
    ]
    summary = run_benchmark(clip, Run(protocol=MASKS, dataset=world(4, *bad)), tmp_path, workers=2)
    assert [(f.id, f.kind) for f in summary.failures] == [
        ("image-20", "image"), ("image-21", "mask"), ("image-22", "size"), ("image-23", "mask"),
    ]  # fmt: skip
    assert summary.partial == (
        "4 of 8 images failed: 1 unreadable image, 2 missing or unreadable mask, 1 mask of the wrong size",
    )
    assert summary.scored == 4
    good = run_benchmark(clip, Run(protocol=MASKS, dataset=world(4)), tmp_path / "good")
    assert summary.scores == good.scores
    repaired = run_benchmark(clip, Run(protocol=MASKS, dataset=_repaired(bad)), tmp_path, resume=True)
    assert (repaired.partial, repaired.scored) == ((), 8)


def _repaired(bad):
    return world(4, *(sample(20 + i) for i in range(len(bad))))


def test_partial_runs_are_marked_and_can_be_extended(clip: Clip, tmp_path: Path) -> None:
    run = Run(protocol=MASKS, dataset=world(6), limit=2, images=1449)
    part = run_benchmark(clip, run, tmp_path)
    assert part.partial == (
        "only the first 2 of 6 images were requested", "the data set has 6 images, the papers' list 1449",
    )  # fmt: skip
    assert list(records(tmp_path)) == ["image-0", "image-1"]
    whole = run_benchmark(clip, replace(run, limit=None, images=6), tmp_path, resume=True)
    assert (whole.partial, whole.scored) == ((), 6)
    assert same(run_benchmark(clip, run, tmp_path, resume=True), part)


def test_other_recipe_weights_or_data_set_is_rejected(clip: Clip, tmp_path: Path) -> None:
    run_benchmark(clip, Run(protocol=MASKS, dataset=world()), tmp_path)
    other = Protocol(recipe=mask_recipe(logit_scale=45.0))
    with pytest.raises(InputError, match=r"other settings: recipe\.logit_scale was 50\.0, is 45\.0"):
        run_benchmark(clip, Run(protocol=other, dataset=world()), tmp_path, resume=True)
    with pytest.raises(InputError, match=r"other settings: data set\.images was 6, is 7"):
        run_benchmark(clip, Run(protocol=MASKS, dataset=world(7)), tmp_path, resume=True)
    bfloat16 = load("miniature", device="cpu", precision="bfloat16")
    with pytest.raises(InputError, match=r"weights\.precision was float32, is bfloat16"):
        run_benchmark(bfloat16, Run(protocol=MASKS, dataset=world()), tmp_path, resume=True)
    # Another average is computed from the same records.
    averaged = Protocol(recipe=mask_recipe(), average="truth")
    assert run_benchmark(clip, Run(protocol=averaged, dataset=world()), tmp_path, resume=True).scored == 6


def test_ids_are_unique(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the id 'image-0' twice"):
        run_benchmark(clip, Run(protocol=MASKS, dataset=world(2, sample(0))), tmp_path)
    assert not list(tmp_path.iterdir())


def test_methods_with_given_tags(clip: Clip, tmp_path: Path) -> None:
    recipe = replace(
        own_tag_first(WORDS, ("sky", "grass")),
        tagger=None,
        templates=("a {}.",),
        variant=ClipEsSettings(max_patches=64),
    )
    data = world(2, sample(2, tags=None), sample(3, unsure=(2,)))
    summary = run_benchmark(clip, Run(protocol=Protocol(recipe=recipe), dataset=data), tmp_path)
    assert [(f.id, f.kind) for f in summary.failures] == [("image-2", "tags")]
    segmenter, matrix = Segmenter(clip, recipe=recipe), ConfusionMatrix(4)
    for seed, tags in ((0, [0]), (1, [0, 1]), (3, [0, 1])):
        matrix.update(segmenter(picture(seed), tags=tags).labels, truth(seed))
    assert summary.scores["miou"] == 100 * matrix.miou()


def test_tag_scores_are_those_of_the_tagger(clip: Clip, tmp_path: Path) -> None:
    summary = run_benchmark(clip, Run(protocol=TAGS, dataset=world(6)), tmp_path)
    tagger = Tagger(clip, recipe=TAGS.recipe)
    correct = chosen_count = true_count = 0
    for seed in range(6):
        chosen, tags = set(tagger(picture(seed)).chosen), {seed % 3, (seed // 3) % 3}
        correct += len(chosen & tags)
        chosen_count, true_count = chosen_count + len(chosen), true_count + len(tags)
    assert summary.scores["precision"] == pytest.approx(100 * correct / chosen_count)
    assert summary.scores["recall"] == pytest.approx(100 * correct / true_count)


def test_other_weights_than_the_papers_are_noted(clip: Clip) -> None:
    assert "12 layers of width 128" in (other_weights(clip) or "")


def test_the_recipe_that_runs_is_recorded(clip: Clip, tmp_path: Path) -> None:
    custom = replace(tagging(), top=1, tag_tau=0.9)
    recipes = {"custom": mask_recipe(among="tags", tagger=custom), "default": mask_recipe(among="tags")}
    for name, recipe in recipes.items():
        run_benchmark(clip, Run(protocol=Protocol(recipe=recipe), dataset=world(1)), tmp_path / name)
        ran = Segmenter(clip, recipe=recipe).recipe
        with reader.Run(tmp_path / name) as run:
            assert run.identity.fields["recipe"] == to_json(ran.deciding())
        assert isinstance(ran, MaskRecipe)
        assert ran.tagger is not None
        assert (ran.tagger == custom) == (name == "custom")

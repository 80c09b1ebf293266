"""Benchmark runs: scores do not depend on interruptions, and partial scores are marked as partial."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask import Segmenter, Tagger, load
from tagmask.bench.benchmark_run import JOURNAL, Run, other_weights, run_benchmark
from tagmask.bench.journal import Record
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.protocol import Protocol
from tagmask.bench.summary import Summary, summarise
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.settings.presets.own_words import own_tag_first
from tagmask.settings.recipes import MaskRecipe
from tests.bench.worlds import WORDS, broken, mask_recipe, picture, sample, tagging, truth, world

MASKS, TAGS = Protocol(recipe=mask_recipe()), Protocol(recipe=tagging(), metric="map")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load("miniature", device="cpu")


def stopped_after(count: int):
    def watch(records: Iterable[Record], total: int) -> Iterator[Record]:
        for i, record in enumerate(records):
            if i == count:
                raise KeyboardInterrupt
            yield record

    return watch


def same(one: Summary, other: Summary) -> bool:
    return repr(one) == repr(other)  # repr: NaN equals NaN, and every digit is compared


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
    assert (tmp_path / "two" / JOURNAL).read_bytes() == (tmp_path / "one" / JOURNAL).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(clip, run, tmp_path / "stopped", workers=2, watch=stopped_after(4))
    half = summarise(tmp_path / "stopped" / JOURNAL, protocol, run.dataset)
    assert half.partial == ("5 of 9 images were not scored",)
    with (tmp_path / "stopped" / JOURNAL).open("ab") as file:
        file.write(b'{"id":"image-4","pix')  # an incomplete line, as a killed process may leave it
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

def slowly(records, total):
    for record in records:
        yield record
        time.sleep(0.05)

run = Run(protocol=Protocol(recipe=mask_recipe()), dataset=world(200))
run_benchmark(load("miniature", device="cpu"), run, Path(sys.argv[1]), workers=2, watch=slowly)
"""


def test_killed_process_keeps_written_records(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environ) as process:
        try:
            deadline = time.monotonic() + 120
            while not path.exists() or len(path.read_bytes().splitlines()) < 5:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
    lines = path.read_bytes().splitlines()[:5]
    run = Run(protocol=MASKS, dataset=world(200), limit=12)
    resumed = run_benchmark(clip, run, tmp_path, resume=True)
    assert path.read_bytes().splitlines()[:5] == lines
    assert same(resumed, run_benchmark(clip, run, tmp_path / "whole"))


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
    whole = run_benchmark(clip, replace(run, limit=None, images=6), tmp_path, resume=True)
    assert (whole.partial, whole.scored) == ((), 6)
    assert same(run_benchmark(clip, run, tmp_path, resume=True), part)


def test_other_recipe_weights_or_data_set_is_rejected(clip: Clip, tmp_path: Path) -> None:
    run_benchmark(clip, Run(protocol=MASKS, dataset=world()), tmp_path)
    other = Protocol(recipe=mask_recipe(logit_scale=45.0))
    with pytest.raises(InputError, match=r"different settings \(recipe\)"):
        run_benchmark(clip, Run(protocol=other, dataset=world()), tmp_path, resume=True)
    with pytest.raises(InputError, match=r"different settings \(data set\)"):
        run_benchmark(clip, Run(protocol=MASKS, dataset=world(7)), tmp_path, resume=True)
    bfloat16 = load("miniature", device="cpu", precision="bfloat16")
    with pytest.raises(InputError, match=r"different settings \(weights\)"):
        run_benchmark(bfloat16, Run(protocol=MASKS, dataset=world()), tmp_path, resume=True)
    # Another average is computed from the same records.
    averaged = Protocol(recipe=mask_recipe(), average="truth")
    assert run_benchmark(clip, Run(protocol=averaged, dataset=world()), tmp_path, resume=True).scored == 6


def test_ids_are_unique(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the id 'image-0' twice"):
        run_benchmark(clip, Run(protocol=MASKS, dataset=world(2, sample(0))), tmp_path)
    assert not (tmp_path / JOURNAL).exists()


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


def test_header_records_the_recipe_that_runs(clip: Clip, tmp_path: Path) -> None:
    custom = replace(tagging(), top=1, tag_tau=0.9)
    recipes = {"custom": mask_recipe(among="tags", tagger=custom), "default": mask_recipe(among="tags")}
    for name, recipe in recipes.items():
        run_benchmark(clip, Run(protocol=Protocol(recipe=recipe), dataset=world(1)), tmp_path / name)
        header = json.loads((tmp_path / name / JOURNAL).read_text().splitlines()[0])
        ran = Segmenter(clip, recipe=recipe).recipe
        assert json.loads(json.dumps(ran.flat())) in header.values()
        assert isinstance(ran, MaskRecipe)
        assert ran.tagger is not None
        assert (ran.tagger == custom) == (name == "custom")

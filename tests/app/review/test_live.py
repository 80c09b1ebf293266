"""Redraws: the same as a new segmenter, with other words, thresholds and refiners; and what has none."""

import base64
import io
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask import Segmenter
from tagmask.app import live
from tagmask.app.frozen_cache import FrozenCache
from tagmask.app.latest_jobs import LatestJobs, SupersededError, TooManyJobsError
from tagmask.cli.mask import mask_images
from tagmask.cli.maskers import segmenter_masker
from tagmask.clip.load import Clip
from tagmask.dense import sliding
from tagmask.errors import WeightsError
from tagmask.runtime.folders import find_images
from tests.app.review.browser import Browser
from tests.app.review.conftest import BACKGROUND, SETTINGS, WORDS, Open

KEY = "photos/a.png"


def labels_of(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    image = PILImage.open(io.BytesIO(base64.b64decode(answer.json()["mask"])))
    return np.asarray(image).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)


CHANGES: list[dict[str, Any]] = [
    {},
    {"words": ["fish", "car", "cat"]},
    {"words": ["cat", "boat"]},
    {"words": ["cat"], "background": ["sky"]},
    {"background": []},
    {"threshold": 0.7},
    {"refine": "pamr"},
    {"words": ["boat", "fish"], "threshold": 0.5, "refine": "crf", "background": None},
]


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_a_redraw_is_what_a_new_run_would_give(
    page: Browser, miniature: Clip, run: Path, changed: dict[str, Any]
) -> None:
    answer = page.send("POST", "/api/redraw", {"key": KEY, **changed})
    drawn = labels_of(answer)
    # The first name of one of the run's classes stands for all of its names.
    words = [WORDS[0] if word == "fish" else word for word in changed.get("words", WORDS)]
    background = changed.get("background")
    settings = SETTINGS | {
        name: changed[given]
        for name, given in (("prob_thd", "threshold"), ("refine", "refine"))
        if given in changed
    }
    segmenter = Segmenter(
        miniature, words, background=BACKGROUND if background is None else background, **settings
    )
    expected = segmenter(run.parent / KEY, confidence=True)
    labels = expected.labels.astype(np.uint32)
    labels[expected.labels == 255] = 0xFFFFFF
    assert np.array_equal(drawn, labels)
    described = answer.json()
    assert tuple(described["words"]) == expected.words
    assert len(described["colors"]) == len(expected.words)
    assert {each["word"]: each["confidence"] for each in described["classes"]} == expected.class_confidence
    assert described["seconds"] >= 0
    if not changed:
        assert np.array_equal(drawn, page.mask(KEY))


@pytest.mark.parametrize(
    "body",
    [{"words": []}, {"words": [""]}, {"words": ["x" * 2000]}, {"words": ["cat"] * 1001}, {"threshold": 2},
     {"refine": "magic"}, {"words": "cat"}, {"threshold": "x"}],
)  # fmt: skip
def test_unusable_requests(page: Browser, body: dict[str, Any]) -> None:
    answer = page.send("POST", "/api/redraw", {"key": KEY, **body})
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_words_that_cannot_be_encoded(page: Browser) -> None:
    for words in (["z q " * 200], ["background"]):
        answer = page.send("POST", "/api/redraw", {"key": KEY, "words": words})
        assert answer.status_code == 400
    assert page.send("POST", "/api/redraw", {"key": "photos/none.png"}).status_code == 404
    assert page.send("POST", "/api/redraw", {"key": "photos/damaged.png"}).status_code == 422


def test_the_tower_runs_once_an_image(page: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    page.send("POST", "/api/redraw", {"key": KEY})

    def run(*_: object, **__: object) -> None:
        raise AssertionError("the tower ran again")

    monkeypatch.setattr(sliding, "extract_features", run)
    assert page.send("POST", "/api/redraw", {"key": KEY, "words": ["boat"]}).status_code == 200
    assert page.get("/api/doubt", key=KEY).status_code == 200
    assert page.json("/api/run")["seconds"] is not None


def test_doubt_is_where_two_classes_are_close(page: Browser, segmenter: Segmenter, run: Path) -> None:
    answer = page.get("/api/doubt", key=KEY)
    doubt = np.asarray(PILImage.open(io.BytesIO(answer.content)))
    scores = segmenter(run.parent / KEY, scores=True).scores
    assert scores is not None
    best = np.sort(scores, axis=0)
    assert np.abs(doubt / 255 - (1 - (best[-1] - best[-2]))).max() < 0.01
    assert doubt.std() > 5


def test_weights_that_cannot_be_loaded(run: Path, open_page: Open) -> None:
    def load(_: object) -> Clip:
        raise WeightsError("There are no weights here.")

    page = open_page(run, load)
    answer = page.send("POST", "/api/redraw", {"key": KEY})
    assert (answer.status_code, answer.json()["detail"]) == (409, "There are no weights here.")
    assert page.json("/api/run")["live"] == {"possible": False, "reason": "There are no weights here."}
    assert page.get("/api/doubt", key=KEY).status_code == 409
    assert page.get("/api/mask", key=KEY).status_code == 200


def test_other_weights_are_refused(run: Path, open_page: Open, sclip_model: Clip) -> None:
    page = open_page(run, lambda _: sclip_model)
    answer = page.send("POST", "/api/redraw", {"key": KEY})
    assert answer.status_code == 409
    assert "Give the same weights" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "cls-seg"}, "With cls-seg the whole image is masked again each time."),
        (
            {"short_side": 64, "crop": 64, "stride": 32, "purify": True},
            "With purification the whole image is masked again each time.",
        ),
    ],
)
def test_methods_without_features_mask_again(
    miniature: Clip, run: Path, open_page: Open, settings: dict[str, Any], said: str
) -> None:
    segmenter = Segmenter(miniature, ["fish", "car"], background=BACKGROUND, **settings)
    masker = segmenter_masker(segmenter, None)
    out, photo = run.parent / "other", run.parent / KEY
    options: dict[str, Any] = {"overlays": False, "formats": frozenset({"png"}), "tags": None}
    mask_images(find_images([photo]), lambda: masker, out=out, **options)
    page = open_page(out)
    about = page.json("/api/run")
    assert about["live"] == {"possible": True, "reason": said}
    assert about["threshold"] is None
    assert about["seconds"] > 0
    (key,) = page.keys()
    assert np.array_equal(labels_of(page.send("POST", "/api/redraw", {"key": key})), page.mask(key))
    body = {"key": key, "words": ["boat", "cat"], "threshold": 0.5}  # which these methods do not have
    changed = labels_of(page.send("POST", "/api/redraw", body))
    expected = Segmenter(miniature, ["boat", "cat"], recipe=segmenter.recipe)(photo).labels
    assert np.array_equal(changed, expected)
    answer = page.get("/api/doubt", key=key)
    assert (answer.status_code, "no score" in answer.json()["detail"]) == (409, True)


def test_features_are_kept_in_the_run(run: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(run, keep_features=True)
    drawn = labels_of(page.send("POST", "/api/redraw", {"key": KEY}))
    file = run / "features" / "a.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])  # torn: made anew
    calls: list[object] = []
    tower = sliding.extract_features
    monkeypatch.setattr(sliding, "extract_features", lambda *a, **k: (calls.append(1), tower(*a, **k))[1])
    again = open_page(run, keep_features=True)
    assert np.array_equal(labels_of(again.send("POST", "/api/redraw", {"key": KEY})), drawn)
    assert calls
    assert len(file.read_bytes()) == len(whole)
    calls.clear()
    third = open_page(run)
    stored = labels_of(third.send("POST", "/api/redraw", {"key": KEY}))
    assert not calls
    assert (stored == drawn).mean() > 0.99  # float16


def test_without_being_asked_nothing_is_written(page: Browser, run: Path) -> None:
    page.send("POST", "/api/redraw", {"key": KEY})
    assert not (run / "features").exists()


def test_only_the_newest_request_of_an_image_runs() -> None:
    jobs, began, go = LatestJobs(), threading.Event(), threading.Event()
    ran: list[str] = []

    def wait() -> None:
        began.set()
        go.wait(10)

    first = jobs.submit("a", wait)
    began.wait(10)
    replaced = [jobs.submit("a", lambda: ran.append("old")) for _ in range(3)]
    newest = jobs.submit("a", lambda: ran.append("new"))
    other = jobs.submit("b", lambda: ran.append("other"))
    for future in replaced:
        with pytest.raises(SupersededError):
            future.result(10)
    go.set()
    for done in (first, newest, other):
        done.result(10)
    assert ran == ["other", "new"]  # what came last is what a person sees now
    jobs.stop()


def test_waiting_jobs_are_bounded_and_dropped_at_the_end() -> None:
    jobs, go = LatestJobs(), threading.Event()
    began = threading.Event()
    jobs.submit("first", lambda: (began.set(), go.wait(10)))
    began.wait(10)
    waiting: list[Future[None]] = [jobs.submit(str(i), lambda: None) for i in range(32)]
    with pytest.raises(TooManyJobsError):
        jobs.submit("one more", lambda: None)
    jobs.stop()
    go.set()
    for future in waiting:
        with pytest.raises(SupersededError):
            future.result(10)


def test_a_failed_job_does_not_end_the_thread() -> None:
    jobs = LatestJobs()

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        jobs.submit("a", fail).result(10)
    assert jobs.submit("a", lambda: 3).result(10) == 3
    jobs.stop()


def test_a_superseded_request_is_told(page: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def superseded(*_: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(SupersededError())
        return future

    monkeypatch.setattr(live.LatestJobs, "submit", superseded)
    answer = page.send("POST", "/api/redraw", {"key": KEY})
    assert (answer.status_code, answer.json()["detail"][:7]) == (409, "A newer")


def test_memory_of_features_is_bounded(segmenter: Segmenter, run: Path) -> None:
    frozen = segmenter.freeze(run.parent / KEY)
    cache, made = FrozenCache(int(2.5 * frozen.nbytes)), []

    def make(name: str) -> Any:
        made.append(name)
        return frozen

    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, lambda name=name: make(name))
        assert cache.nbytes <= 2.5 * frozen.nbytes
    assert made == ["a", "b", "c", "b"]
    small = FrozenCache(10)
    assert small.get("a", lambda: frozen) is frozen
    assert small.nbytes == 0

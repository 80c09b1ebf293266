"""How fast the servers answer: masks redrawn, pages of a large run, and many requests at once.

Run by `python -m benchmarks.review`. Each time is of a whole request over HTTP, as a browser waits for it.
"""

import json
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, cycle
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np
import torch
from PIL import Image as PILImage

from benchmarks.inputs import make_image, make_weights, temporary_home
from benchmarks.process_memory import memory_bytes
from benchmarks.review_server import PageClient, mask_run, served, write_scenes
from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity

__all__ = ["gallery", "redraw", "requests"]

# -- Redrawing -----------------------------------------------------------------------------------------------

SIZE = (375, 500)
WORDS = (
    *("person", "dog", "bicycle", "car", "tree", "boat", "chair", "bottle", "sheep", "bus", "table"),
    "horse",
)
ENCODED = "cow"
"""A word that was used before, and is not of the run."""
NEW = ("lamp", "kite", "sofa", "river", "tower", "apple", "train", "clock", "piano", "mirror", "ladder")
"""Words that were never used; one for each repetition of each refinement."""
REFINEMENTS = ("none", "pamr", "crf")
AIMS = {"first pass": "", "threshold": "0.3", "encoded word": "0.3", "new word": "2.5"}
"""Seconds without refinement that the page aims at; PAMR and CRF may take 2 s more."""


def redraw(folder: Path, small: bool) -> Iterator[str]:
    """Yield a table: seconds until a changed mask is there, ViT-B/16 with random weights.

    The photo is made up: smooth waves with noise, so a CRF takes longer than on most photos. Each figure is
    the median of the repetitions; "first pass" is another photo each time.
    """
    repeats = 1 if small else 3
    weights = "miniature" if small else str(folder / "ViT-B-16.pt")
    if not small:
        torch.save(make_weights(), weights)
    photos = folder / "photos"
    photos.mkdir()
    image = make_image(*SIZE)
    for number in range(1 + repeats * len(REFINEMENTS)):
        PILImage.fromarray(np.roll(image, 16 * number, axis=1)).save(photos / f"{number}.png")
    with temporary_home():  # no word is encoded yet
        run = mask_run(photos, folder / "run", WORDS, "--no-overlay", weights=weights)
        with served("review", str(run), "--no-browser") as (address, _):
            client = PageClient(address)
            took = dict(_redraws(client, repeats))
            client.close()
    yield f"{SIZE[0]} x {SIZE[1]}, {len(WORDS)} words, median of {repeats}:"
    yield ""
    yield f"| seconds | {' | '.join(REFINEMENTS)} | aim without refinement |"
    yield f"|---|{'---|' * len(REFINEMENTS)}---|"
    for name, aim in AIMS.items():
        cells = [f"{statistics.median(took[name, refine]):.2f}" for refine in REFINEMENTS]
        yield f"| {name} | {' | '.join(cells)} | {aim} |"


def _redraws(client: PageClient, repeats: int) -> Iterator[tuple[tuple[str, str], list[float]]]:
    """Yield the seconds of each change with each refinement."""
    keys = iter([image["key"] for image in client.get("/api/images", sort="name")["images"]])
    thresholds = (0.1 + 0.01 * i for i in count())
    new_words = iter(NEW)
    seen = next(keys)

    def send(key: str, refine: str, words: Sequence[str] = WORDS) -> float:
        body = {"key": key, "words": list(words), "threshold": next(thresholds), "refine": refine}
        begun = time.perf_counter()
        client.post("/api/redraw", body)
        return time.perf_counter() - begun

    send(seen, "none", (*WORDS[1:], ENCODED))  # loads the model, encodes all words
    others = cycle([(*WORDS[1:], ENCODED), WORDS])
    for refine in REFINEMENTS:
        changes: dict[str, Callable[[], float]] = {
            "first pass": lambda refine=refine: send(next(keys), refine),  # type: ignore[misc]
            "threshold": lambda refine=refine: send(seen, refine),  # type: ignore[misc]
            "encoded word": lambda refine=refine: send(seen, refine, next(others)),  # type: ignore[misc]
            "new word": lambda refine=refine: send(  # type: ignore[misc]
                seen, refine, (*WORDS[1:], next(new_words))
            ),
        }
        for name, change in changes.items():
            yield (name, refine), [change() for _ in range(repeats)]


# -- A large run ---------------------------------------------------------------------------------------------

FILTERS: dict[str, dict[str, str | int]] = {
    "first page": {},
    "first page, by name": {"sort": "name"},
    "page at 90 %": {},
    "a word": {"word": "cat"},
    "failed": {"status": "failed"},
    "accepted": {"review": "accepted"},
    "rejected": {"review": "rejected"},
    "corrected": {"review": "corrected"},
    "not reviewed": {"review": "none", "status": "done"},
    "a part of the name": {"search": "sub/09"},
    "word, not reviewed, name": {"word": "dog", "review": "none", "search": "sub"},
}
"""What is asked for, by the name of the row."""
PAGE = 60


def make_rows(path: Path, rows: int) -> Path:
    """Make a run of rows without photos: one in seventeen failed, one in five reviewed, some corrected."""
    classes = Classes(("background", "cat", "dog", "boat"), 255)
    with RunFolder.open(path, RunIdentity("mask", {"words": ["cat", "dog", "boat"]}), classes):
        pass
    confidence = np.random.default_rng(0).random(rows)
    shares = [json.dumps(each) for each in ({"background": 9}, {"cat": 4, "dog": 5}, {"dog": 9}, {"boat": 9})]

    def values(i: int) -> tuple[object, ...]:
        done, name = i % 17 != 0, f"{'Sub' if i % 2 else 'other'}/{i * 7919 % rows:06d}"
        found = (shares[i % 4], float(confidence[i - 1])) if done else (None, None)
        state = "done" if done else "failed"
        return (i, f"photos/{name}.jpg", name, f"/none/{name}.jpg".encode(), state, *found)

    columns = "id, key, name, source, status, shares, confidence, width, height, updated"
    reviews = ("accepted", "rejected")
    with closing(sqlite3.connect(path / "run.db")) as database, database:
        every = map(values, range(1, rows + 1))
        database.executemany(
            f"INSERT INTO images ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, 50, 40, 1.0)", every
        )
        database.executemany(
            "INSERT INTO reviews VALUES (?, ?, 0, 1.0)",
            ((i, reviews[i // 5 % 2]) for i in range(5, rows + 1, 5)),
        )
        corrected = database.execute("SELECT id, name FROM images WHERE status = 'done' AND id % 500 = 1")
        for image, name in corrected.fetchall():
            file = path / "corrected" / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(index_png(np.ones((40, 50), np.uint8)))
            database.execute("INSERT INTO reviews VALUES (?, 'corrected', 0, 1.0)", (image,))
    return path


def gallery(folder: Path, small: bool) -> Iterator[str]:
    """Yield a table: milliseconds of the gallery's pages in a run of 100,000 images.

    "start" is the time from the command to its first page of images, with Python's start.
    """
    rows, repeats = (2_000, 3) if small else (100_000, 20)
    run = make_rows(folder / "run", rows)
    begun = time.perf_counter()
    with served("review", str(run), "--no-browser") as (address, _):
        client = PageClient(address)
        client.get("/api/run")
        client.get("/api/images", limit=PAGE)
        start = time.perf_counter() - begun
        yield f"{rows:,} images, {PAGE} a page, {repeats} repetitions; start {start:.1f} s:"
        yield ""
        yield "| ms | images found | median | most |"
        yield "|---|---|---|---|"
        for name, query in FILTERS.items():
            offset = rows * 9 // 10 if "90 %" in name else 0
            found, took = 0, []
            for _ in range(repeats):
                begun = time.perf_counter()
                found = client.get("/api/images", limit=PAGE, offset=offset, **query)["count"]
                took.append(1000 * (time.perf_counter() - begun))
            yield f"| {name} | {found:,} | {statistics.median(took):.0f} | {max(took):.0f} |"
        client.close()


# -- Many requests -------------------------------------------------------------------------------------------

CLIENTS = 8
ROUTES = ("/v1/mask", "/v1/tag")


class Request(NamedTuple):
    """How a request ended."""

    route: str
    seconds: float
    failed: bool


def requests(folder: Path, small: bool) -> Iterator[str]:
    """Yield tables: 1,000 requests to `tagmask serve` from 8 clients, and the memory of its process.

    The bundled model, twelve words; masks and tags in turn, of 40 scenes. A request has failed if its answer
    is not 200, also when the server was busy. Each client sends its next request when it has an answer.
    """
    total, early = (24, 8) if small else (1_000, 100)
    scenes = 4 if small else 40
    write_scenes(folder / "photos", range(scenes))
    photos = [file.read_bytes() for file in sorted((folder / "photos").iterdir())]
    with served("serve", "--weights", "miniature") as (address, process):
        _wait_until_healthy(address)
        memory = {"at the start": memory_bytes("VmRSS", process)}
        begun = time.perf_counter()
        first = _ask(address, photos, range(early))
        memory[f"after {early:,} requests"] = memory_bytes("VmRSS", process)
        answers = [*first, *_ask(address, photos, range(early, total))]
        seconds = time.perf_counter() - begun
        memory[f"after {total:,}"] = memory_bytes("VmRSS", process)
        memory["at the peak"] = memory_bytes("VmHWM", process)
    yield f"{total:,} requests, {CLIENTS} clients, {seconds:.0f} s:"
    yield ""
    yield "| route | requests | failed | p50 s | p95 s |"
    yield "|---|---|---|---|---|"
    for route in ROUTES:
        chosen = [answer for answer in answers if answer.route == route]
        p50, p95 = np.quantile([answer.seconds for answer in chosen], (0.5, 0.95))
        failed = sum(answer.failed for answer in chosen)
        yield f"| `{route}` | {len(chosen):,} | {failed} | {p50:.2f} | {p95:.2f} |"
    yield ""
    yield "| memory of the process | MiB |"
    yield "|---|---|"
    for when, size in memory.items():
        yield f"| {when} | {size / 2**20:.0f} |"


def _wait_until_healthy(address: str) -> None:
    while True:
        try:
            httpx2.get(f"{address}/health").raise_for_status()
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return


def _ask(address: str, photos: Sequence[bytes], numbers: Sequence[int]) -> list[Request]:
    """Send requests from all clients at once."""
    with httpx2.Client(base_url=address, timeout=600) as client, ThreadPoolExecutor(CLIENTS) as clients:

        def send(number: int) -> Request:
            route = ROUTES[number % len(ROUTES)]
            photo = photos[number // len(ROUTES) % len(photos)]
            begun = time.perf_counter()
            try:
                answer = client.post(
                    route, files={"image": ("photo.png", photo)}, data={"words": list(SERVED)}
                )
                failed = answer.status_code != httpx2.codes.OK
            except httpx2.TransportError:
                failed = True
            return Request(route, time.perf_counter() - begun, failed)

        return list(clients.map(send, numbers))


SERVED = (
    *("tree", "fish", "bird", "cat", "butterfly", "car", "boat", "house", "umbrella", "guitar"),
    *("mushroom", "apple"),
)
"""Words of the requests."""

import base64
import logging
import threading
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tagmask import Segmenter, Tagger
from tagmask.app.guards import Credentials
from tagmask.app.image_access import ImageAccess
from tagmask.app.model_worker import ModelWorker
from tagmask.app.predictions import RegionOptions
from tagmask.clip.load import Clip
from tagmask.errors import WeightsError
from tagmask.regions.run_lengths import brush_mask
from tagmask.results import Segmentation
from tagmask.types import Image
from tests.app.conftest import CONFIG, MakeClient, halves, request, stub, task


def decoded(result: dict[str, Any]) -> np.ndarray:
    size = result["original_height"], result["original_width"]
    return brush_mask(np.array(result["value"]["rle"]), size)


def test_it_answers_before_the_model_is_loaded(make_client: MakeClient) -> None:
    loading = threading.Event()
    client = make_client(model=stub(lambda: loading.wait(30)), time_limit=0.2)
    up = {"status": "UP", "model_class": "tagmask"}
    assert client.get("/").json() == up
    assert client.get("/health").json() == up
    body = {
        "project": "1.1764380000",
        "schema": CONFIG,
        "hostname": "",
        "access_token": "x",
        "extra_params": None,
    }
    assert client.post("/setup", json=body).json() == {"model_version": "tagmask test"}
    answer = client.post("/predict", json=request(task(), task())).json()["results"]
    failed = {"result": [], "score": 0.0, "model_version": "tagmask test, failed"}
    assert answer == [failed, failed]
    loading.set()
    assert make_client().post("/predict", json=request(task())).json()["results"][0]["result"]


def test_predictions_are_those_of_the_library(make_client: MakeClient, miniature: Clip, photo: bytes) -> None:
    client = make_client(model=ModelWorker(lambda: miniature))
    answer = client.post("/predict", json=request(task())).json()["results"]
    seg = Segmenter(miniature, ["fish", "boat", "cat"])(photo, confidence=True)
    tags = Tagger(miniature, ["fish", "car"])(photo)
    assert len(answer) == 1
    assert answer[0]["model_version"] == "tagmask test"
    *brushes, choices = answer[0]["result"]

    names = {"fish": "Fisch", "boat": "boat", "cat": "cat"}
    found = [word for word in seg.words[1:] if word in seg.pixels()]
    assert "fish" in found
    assert [each["value"]["brushlabels"] for each in brushes] == [[names[word]] for word in found]
    assert seg.class_confidence is not None
    for word, each in zip(found, brushes, strict=True):
        assert np.array_equal(decoded(each), seg.labels == seg.words.index(word))
        assert each["score"] == pytest.approx(seg.class_confidence[word], abs=1e-4)
        assert (each["type"], each["from_name"], each["to_name"]) == ("brushlabels", "mask", "photo")
        assert (each["origin"], each["image_rotation"], each["value"]["format"]) == ("manual", 0, "rle")
    assert choices["value"] == {"choices": ["Fisch"]}
    assert (choices["type"], choices["from_name"], choices["to_name"]) == ("choices", "tags", "photo")
    assert choices["score"] == pytest.approx(float(tags.scores[0]), abs=1e-4)
    assert answer[0]["score"] == min(each["score"] for each in answer[0]["result"])
    assert len({each["id"] for each in answer[0]["result"]}) == len(answer[0]["result"])


def test_regions_are_labels_or_connected_parts(make_client: MakeClient) -> None:
    def areas(regions: RegionOptions | None) -> list[tuple[str, int]]:
        answer = make_client(regions=regions).post("/predict", json=request(task())).json()["results"][0]
        brushes = [each for each in answer["result"] if each["type"] == "brushlabels"]
        return [(each["value"]["brushlabels"][0], int(decoded(each).sum())) for each in brushes]

    upper, lower = 320 // 3 * 240, (320 - 2 * 320 // 3) * 240
    assert areas(None) == [("Fisch", upper + 1), ("boat", lower - 4)]
    assert areas(RegionOptions("component")) == [("Fisch", upper), ("Fisch", 1), ("boat", lower - 4)]
    assert areas(RegionOptions("component", min_area=2)) == [("Fisch", upper), ("boat", lower - 4)]
    assert areas(RegionOptions(min_area=upper + 2)) == [("boat", lower - 4)]


@pytest.mark.parametrize(
    ("attribute", "found", "score"), [("", ["c"], 0.8), ('choice="multiple"', ["c", "a"], 0.2)]
)
def test_single_choices_get_the_best_only(
    make_client: MakeClient, attribute: str, found: list[str], score: float
) -> None:
    labels = "".join(f'<Choice value="{word}"/>' for word in "abc")
    choices = f'<Choices name="c" toName="i" {attribute}>{labels}</Choices>'
    config = f'<View><Image name="i" value="$image"/>{choices}</View>'
    answer = make_client().post("/predict", json=request(task(), config=config)).json()["results"][0]
    assert answer["result"][0]["value"]["choices"] == found
    assert answer["score"] == answer["result"][0]["score"] == score


def test_a_task_without_image_costs_only_itself(
    make_client: MakeClient, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "text.png").write_text("<html>")
    broken = [
        task("/data/upload/1/x.png"),
        task("http://127.0.0.1:1/x.png"),
        task("file:///etc/passwd"),
        task("/data/local-files/?d=../secret.png"),
        task("/data/local-files/?d=text.png"),
        task(None),
        {"id": 8, "data": {"photo": "x"}},
        {"id": 9, "data": []},
        {},
    ]
    tasks = [task(), *broken, task()]
    with caplog.at_level(logging.WARNING, "tagmask"):
        answer = make_client().post("/predict", json=request(*tasks))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [bool(each["result"]) for each in results] == [True, *[False] * len(broken), True]
    assert {each["model_version"] for each in results[1:-1]} == {"tagmask test, failed"}
    messages = [record.getMessage() for record in caplog.records if "no prediction" in record.getMessage()]
    assert len(messages) == len(broken)
    assert "Set LABEL_STUDIO_URL" in messages[0]
    assert "is not allowed" in messages[1]
    assert "root:" not in caplog.text


def test_a_surprise_with_one_image_costs_only_that_one(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    calls = count()

    def surprising(image: Image) -> Segmentation:
        if next(calls) == 1:
            raise ZeroDivisionError("surprise")
        return halves(("fish", "boat", "cat"), image)

    client = make_client(model=stub(make_segmenter=lambda *_: surprising))
    results = client.post("/predict", json=request(task(), task(), task())).json()["results"]
    assert [bool(each["result"]) for each in results] == [True, False, True]
    assert "surprise" in caplog.text


def test_what_is_ready_is_answered_in_time(make_client: MakeClient, photo: bytes) -> None:
    fetched = 0
    release = threading.Event()

    class Slow(ImageAccess):
        def read(self, location: str) -> bytes:
            nonlocal fetched
            fetched += 1
            if location == "slow":
                release.wait(30)
            return photo

    client = make_client(Slow(), time_limit=1.0)
    tasks = [task("fast"), task("slow"), *[task("fast")] * 10]
    results = client.post("/predict", json=request(*tasks)).json()["results"]
    release.set()
    assert [bool(each["result"]) for each in results] == [True, *[False] * 11]
    assert fetched < 10  # the images of tasks that are not reached are not fetched


def test_too_many_requests_are_sent_away(make_client: MakeClient, photo: bytes) -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    class Slow(ImageAccess):
        def read(self, location: str) -> bytes:
            entered.release()
            release.wait(30)
            return photo

    client = make_client(Slow())
    post = partial(client.post, "/predict", json=request(task()))
    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        assert all(entered.acquire(timeout=20) for _ in range(4))  # the threads that fetch
        while (answer := client.post("/predict", json=request())).status_code == 200:
            pass  # until all requests are there
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        assert client.get("/health").status_code == 200
    finally:
        release.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("config", "status"),
    [
        ("", 200),  # of a new project
        ("<View/>", 200),
        ("<View>", 400),
        ('<!DOCTYPE v [<!ENTITY a "a">]><View>&a;</View>', 400),
        (CONFIG.replace("BrushLabels", "PolygonLabels").replace("Choices", "Taxonomy"), 400),
    ],
)
def test_unusable_configurations(make_client: MakeClient, config: str, status: int) -> None:
    client = make_client()
    assert client.post("/setup", json={"project": "1", "schema": config}).status_code == status
    answer = client.post("/predict", json=request(task(), config=config))
    assert answer.status_code == 400
    assert "labeling configuration" in answer.json()["detail"]


def test_words_that_cannot_be_used_are_explained(make_client: MakeClient, miniature: Clip) -> None:
    client = make_client(model=ModelWorker(lambda: miniature))
    answer = client.post("/predict", json=request(task(), config=CONFIG.replace('"boat"', '"fish"')))
    assert answer.status_code == 400
    assert "has 'fish' twice" in answer.json()["detail"]


def test_a_model_that_cannot_be_loaded(make_client: MakeClient) -> None:
    def load() -> Clip:
        raise WeightsError("The weights are damaged.")

    answer = make_client(model=stub(load, make_segmenter=lambda clip, _: clip)).post(
        "/predict", json=request(task())
    )
    assert (answer.status_code, answer.json()) == (503, {"detail": "The weights are damaged."})


def test_webhook_and_metrics(make_client: MakeClient) -> None:
    client = make_client()
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 201
    assert client.get("/metrics").json() == {}
    assert client.get("/docs").status_code == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"tasks": {}}', b'{"tasks": [1], "label_config": ""}', b"[" * 100_000, b"\xff\xfe"],
)
def test_bad_bodies_are_refused(make_client: MakeClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert make_client().post("/predict", content=body, headers=headers).status_code in (400, 422)


def test_large_bodies_are_refused_before_they_are_received(make_client: MakeClient) -> None:
    client = make_client(max_body=1000)
    received = 0

    def parts() -> Iterator[bytes]:
        nonlocal received
        for _ in range(100):
            received += 100
            yield b" " * 100

    for route in ("/predict", "/setup", "/webhook"):
        headers = {"Content-Type": "application/json"}
        assert client.post(route, content=b" " * 1001, headers=headers).status_code == 413
        assert client.post(route, content=parts(), headers=headers).status_code == 413
        assert client.post(route, content=b"", headers={"Content-Length": "1" * 30}).status_code == 413
    assert client.post("/webhook", content=b" " * 1000).status_code == 201


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def test_a_password_is_asked_for_on_every_route(make_client: MakeClient) -> None:
    client = make_client(credentials=Credentials("ann", "pässword"))
    wrong = [
        {},
        basic("ann:"),
        basic("ann:pässwor"),
        basic("bob:pässword"),
        {"Authorization": "Basic é".encode()},
    ]
    wrong += [
        {"Authorization": "Basic " + "=" * 10},
        {"Authorization": basic("ann:pässword")["Authorization"][6:]},
    ]
    for headers in wrong:
        for method, route in [("GET", "/health"), ("POST", "/predict"), ("GET", "/openapi.json")]:
            answer = client.request(method, route, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Basic")
    assert client.get("/health", headers=basic("ann:pässword")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9090"}, 200),
        ({"Host": "[::1]:9090"}, 200),
        ({"Host": "Photos.Local"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://127.0.0.1:9090"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_are_refused(
    make_client: MakeClient, headers: dict[str, str], status: int
) -> None:
    client: TestClient = make_client(allowed_hosts=["photos.local"])
    assert client.get("/health", headers=headers).status_code == status

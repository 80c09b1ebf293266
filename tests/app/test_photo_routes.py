"""`tagmask serve`: tags and masks of posted photos, their limits, and the page."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image as PILImage

from tagmask import Segmenter, Tagger
from tagmask.app.limits import PhotoLimits
from tagmask.app.model_worker import ModelWorker
from tagmask.app.page_files import package_page, page_files, page_router
from tagmask.app.photo_routes import photo_router
from tagmask.app.photo_service import PhotoService
from tagmask.app.server import create_app
from tagmask.clip.load import Clip
from tagmask.miniature.evaluation_scenes import unseen_scene
from tests.app.conftest import stub
from tests.images import hostile

Make = Callable[..., TestClient]
WORDS = ["fish", "boat", "cat"]


@pytest.fixture
def make() -> Iterator[Make]:
    """Returns a client of a server with a model and limits."""
    with ExitStack() as stack:

        def client(model: ModelWorker | None = None, **limits: Any) -> TestClient:
            worker = model or stub()
            stack.callback(worker.stop)
            service = PhotoService(worker, PhotoLimits(**limits))
            app = create_app(
                [photo_router(service), page_router(page_files(package_page()), "photo.html")],
                max_body=2_000_000,
                start=lambda: worker.start(lambda _: None),
            )
            return stack.enter_context(TestClient(app, base_url="http://127.0.0.1:9090"))

        yield client


def post(client: TestClient, route: str, photo: bytes, words: list[str] = WORDS, **fields: str) -> Any:
    return client.post(route, files={"image": ("photo", photo)}, data={"words": words, **fields})


def labels_of(mask: str) -> np.ndarray:
    rgb = np.array(PILImage.open(BytesIO(base64.b64decode(mask)))).astype(int)
    return np.where((rgb == 255).all(axis=2), -1, rgb[..., 0] + 256 * rgb[..., 1])


def test_answers_are_the_librarys(make: Make, miniature: Clip, photo: bytes) -> None:
    def segmenter(clip: Clip, words: tuple[str, ...]) -> Any:
        return partial(Segmenter(clip, words), confidence=True)

    client = make(ModelWorker(lambda: miniature, segmenter, Tagger))
    image = unseen_scene(1).image
    masks = post(client, "/v1/mask", photo).json()
    expected = Segmenter(miniature, WORDS)(image, confidence=True)
    assert masks["words"] == list(expected.words)
    assert (masks["height"], masks["width"]) == expected.labels.shape
    assert np.array_equal(labels_of(masks["mask"]), expected.labels)
    assert {each["word"]: each["share"] for each in masks["classes"]} == pytest.approx(expected.shares())
    assert {each["word"]: each["confidence"] for each in masks["classes"]} == expected.class_confidence
    assert len(masks["colors"]) == len(masks["words"])
    tags = post(client, "/v1/tag", photo, ["fish; boat", "cat"]).json()
    found = Tagger(miniature, WORDS)(image)
    assert [each["word"] for each in tags["tags"]] == list(found.names)
    assert tags["scores"] == pytest.approx(dict(zip(WORDS, found.scores.tolist(), strict=True)))


# The decoder of pycocotools under newer NumPy; not what is tested here.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_run_lengths_on_request(make: Make, photo: bytes) -> None:
    from pycocotools import mask as coco

    client = make()
    png = post(client, "/v1/mask", photo).json()
    rle = post(client, "/v1/mask", photo, encoding="rle").json()
    assert rle["mask"] is None
    labels = labels_of(png["mask"])
    found = {each["label"]: each["rle"] for each in rle["classes"]}
    assert found.pop(0) is None  # the background
    for label, runs in found.items():
        decoded = coco.decode({"size": runs["size"], "counts": runs["counts"].encode()})
        assert np.array_equal(decoded.astype(bool), labels == label)
    assert len(found) == 2


def encoded(width: int, height: int) -> bytes:
    buffer = BytesIO()
    PILImage.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("photo", "words", "limits", "status", "detail"),
    [
        (encoded(40, 30), ["cat"], {"pixels": 1199}, 413, "The image has 0.0 megapixels."),
        (encoded(40, 30), ["a", "b", "c"], {"words": 2}, 400, "Got 3 words. Give at most 2."),
        (encoded(40, 30), [" "], {}, 400, "No words are given."),
        (encoded(40, 30), ["x" * 401], {}, 400, "A word has more than 400 characters."),
        (b"", ["cat"], {}, 415, "The 0 bytes given"),
        (b"<html>", ["cat"], {}, 415, "an HTML page"),
        (encoded(40, 30)[:60], ["cat"], {}, 415, "damaged"),
        (hostile.png((40_000, 40_000), 8, 2, b""), ["cat"], {}, 415, "too large"),
        (b"x" * 2_000_001, ["cat"], {}, 413, "The body has more than 2 MB."),
    ],
)
def test_requests_beyond_the_limits_are_refused(
    make: Make, photo: bytes, words: list[str], limits: dict[str, int], status: int, detail: str
) -> None:
    client = make(**limits)
    for route in ("/v1/tag", "/v1/mask"):
        response = post(client, route, photo, words)
        assert response.status_code == status
        assert detail in response.json()["detail"]


def test_requests_that_cannot_wait_are_refused(make: Make, photo: bytes) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(clip: Clip, words: tuple[str, ...]) -> Any:
        def tag(image: object) -> Any:
            begun.set()
            assert release.wait(10)
            return stub_tags(words, image)

        return tag

    client = make(stub(make_tagger=slow), waiting=2, seconds=0.05)
    answers: list[int] = []
    running = threading.Thread(target=lambda: answers.append(post(client, "/v1/tag", photo).status_code))
    running.start()
    assert begun.wait(10)
    late = post(client, "/v1/tag", photo)  # waits 0.05 s behind the first
    assert late.status_code == 503
    assert late.headers["retry-after"] == "5"
    assert client.get("/health").json()["status"] == "UP"
    assert "tagmask_requests_waiting 1\n" in client.get("/metrics").text
    release.set()
    running.join()
    assert answers == [200]
    text = client.get("/metrics").text
    assert 'tagmask_requests_total{route="/v1/tag",status="200"} 1' in text
    assert 'tagmask_requests_total{route="/v1/tag",status="503"} 1' in text
    assert 'tagmask_request_seconds_bucket{route="/v1/tag",le="+Inf"} 1' in text
    assert "tagmask_requests_waiting 0\n" in text


def stub_tags(words: tuple[str, ...], image: Any) -> Any:
    from tests.app.conftest import every_second

    return every_second(words, image)


def test_a_full_queue_is_refused_at_once(make: Make, photo: bytes) -> None:
    begun, release = threading.Event(), threading.Event()

    def before() -> None:
        begun.set()
        assert release.wait(10)

    client = make(stub(before), waiting=1)
    assert begun.wait(10)  # the model is being loaded
    answers: list[int] = []
    running = threading.Thread(target=lambda: answers.append(post(client, "/v1/mask", photo).status_code))
    running.start()
    while "waiting 1\n" not in client.get("/metrics").text:
        pass
    assert post(client, "/v1/mask", photo).status_code == 503
    release.set()
    running.join()
    assert answers == [200]


def test_the_page_and_its_files(make: Make) -> None:
    client = make()
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    names = ["style.css", "photo.js", "viewer.js", "labels.js", "dom.js", "api.js", "icon.svg"]
    assert 'src="/page/photo.js"' in page.text
    assert [client.get(f"/page/{name}").status_code for name in names] == [200] * len(names)
    for name in ("nothing.js", "__init__.py", "../server.py", "%2e%2e%2fserver.py"):
        assert client.get(f"/page/{name}").status_code == 404
    for text in [page.text, *(client.get(f"/page/{name}").text for name in names)]:
        assert "https://" not in text  # nothing comes from elsewhere


def test_openapi_documents_the_routes(make: Make) -> None:
    paths = make().get("/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/tag", "/v1/mask", "/health", "/metrics"}
    assert set(paths["/v1/mask"]["post"]["responses"]) == {"200", "400", "413", "415", "422", "503"}


def test_other_sites_cannot_use_it(make: Make, photo: bytes) -> None:
    client = make()
    client.headers["Origin"] = "http://evil.example"
    assert post(client, "/v1/tag", photo).status_code == 403
    del client.headers["Origin"]
    client.headers["Host"] = "evil.example"
    assert client.get("/").status_code == 403

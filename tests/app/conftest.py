"""A Label Studio backend with the miniature model, and images that it may fetch."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image as PILImage

from tagmask.app.image_access import ImageAccess
from tagmask.app.label_studio import label_studio_router
from tagmask.app.label_studio_backend import LabelStudioBackend
from tagmask.app.model_worker import ModelWorker
from tagmask.app.predictions import RegionOptions
from tagmask.app.server import create_app
from tagmask.clip.load import Clip, load
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.results import Segmentation, Tags
from tagmask.types import Image

CONFIG = """
<View>
  <Image name="photo" value="$image"/>
  <BrushLabels name="mask" toName="photo">
    <Label value="Fisch" hint="fish" background="#ff0000"/>
    <Label value="boat"/>
    <Label value="Katze" alias="cat"/>
  </BrushLabels>
  <Choices name="tags" toName="photo" choice="multiple">
    <Choice value="Fisch" hint="fish"/>
    <Choice value="car"/>
  </Choices>
</View>
"""

MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="session")
def miniature() -> Clip:
    return load("miniature", device="cpu")


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A scene with a fish."""
    buffer = BytesIO()
    PILImage.fromarray(unseen_scene(1).image).save(buffer, "PNG")
    return buffer.getvalue()


def halves(words: tuple[str, ...], image: Image) -> Segmentation:
    """The first word above, the second below, apart from one pixel; the background between them."""
    labels = np.zeros(image.shape[:2], np.uint8)
    labels[: len(labels) // 3] = 1
    labels[2 * len(labels) // 3 :] = 2
    labels[-1, 0], labels[-3:, 2] = 1, 0
    names = ("background", *words)
    confidence = {name: 0.9 - 0.1 * i for i, name in enumerate(names[:3])}
    return Segmentation(names, labels, None, True, "float32", None, confidence, 0.7)


def every_second(words: tuple[str, ...], image: Image) -> Tags:
    scores = np.linspace(0.2, 0.8, len(words), dtype=np.float32)
    return Tags(words, scores, tuple(range(0, len(words), 2)), 0.1, "float32")


def stub(before: Callable[[], object] = object, **makers: Any) -> ModelWorker:
    """A worker whose model computes nothing; `before` runs while it is loaded."""

    def load() -> Clip:
        before()
        return Clip.__new__(Clip)

    made: dict[str, Any] = {
        "make_segmenter": lambda _, words: partial(halves, words),
        "make_tagger": lambda _, words: partial(every_second, words),
    }
    return ModelWorker(load, **(made | makers))


@pytest.fixture
def folder(tmp_path: Path, photo: bytes) -> Path:
    root = tmp_path / "root"
    (root / "a b").mkdir(parents=True)
    (root / "a b" / "fish.png").write_bytes(photo)
    return root


@pytest.fixture
def make_client(folder: Path) -> Iterator[MakeClient]:
    """Returns a client of a running application."""
    with ExitStack() as stack:

        def make(
            images: ImageAccess | None = None,
            *,
            model: ModelWorker | None = None,
            time_limit: float = 60.0,
            regions: RegionOptions | None = None,
            headers: dict[str, str] | None = None,
            **options: Any,
        ) -> TestClient:
            model = model or stub()
            backend = LabelStudioBackend(
                model,
                images or ImageAccess(local_files_root=folder),
                version="tagmask test",
                time_limit=time_limit,
                regions=regions,
            )
            stack.callback(model.stop)
            stack.callback(backend.stop)
            app = create_app(
                [label_studio_router(backend)], start=lambda: model.start(lambda _: None), **options
            )
            return stack.enter_context(TestClient(app, base_url="http://127.0.0.1:9090", headers=headers))

        yield make


def task(image: object = "/data/local-files/?d=a%20b/fish.png", number: int = 1) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}, "annotations": [], "project": 1}


def request(*tasks: dict[str, Any], config: str = CONFIG) -> dict[str, Any]:
    """What Label Studio posts."""
    params = {"login": None, "password": None, "context": None}
    return {"tasks": list(tasks), "project": "1.1764380000", "label_config": config, "params": params}

"""What the page's scripts do: requests with the cookie, and with the origin where something is changed."""

import io
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image as PILImage

from tagmask.app.review_session import ReviewSession

ADDRESS = "http://127.0.0.1:8000"
SESSION = ReviewSession()


class Browser:
    """A client with the session's cookie."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        client.cookies.set(SESSION.name, SESSION.cookie)

    def get(self, path: str, **query: object) -> Any:
        return self.client.get(path, params=query)

    def json(self, path: str, **query: object) -> Any:
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, method: str, path: str, body: Any = None, **query: object) -> Any:
        kind = {"content": body} if isinstance(body, bytes) else {"json": body}
        headers = {"Origin": ADDRESS}
        return self.client.request(method, path, params=query, headers=headers, **kind)

    def keys(self, **query: object) -> list[str]:
        return [image["key"] for image in self.json("/api/images", **query)["images"]]

    def mask(self, key: str, **query: object) -> np.ndarray:
        return decoded(self.get("/api/mask", key=key, **query))


def decoded(answer: Any) -> np.ndarray:
    """Labels of a mask, 0xFFFFFF where it has none."""
    assert answer.status_code == 200, answer.text
    pixels = np.asarray(PILImage.open(io.BytesIO(answer.content))).astype(np.uint32)
    assert pixels.shape[2] == 3
    return pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]


def encoded(labels: np.ndarray, mode: str = "RGB") -> bytes:
    """A mask as the page sends it."""
    codes = labels.astype(np.uint32)
    pixels = np.stack([codes & 255, codes >> 8 & 255, codes >> 16], axis=-1).astype(np.uint8)
    return png(PILImage.fromarray(pixels).convert(mode))


def png(image: PILImage.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()

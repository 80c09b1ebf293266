import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tagmask.errors import ShapeError
from tagmask.report.heatmap import heat_strip

PICTURE = np.full((60, 90, 3), 200, np.uint8)


def decoded(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int) for data in found]


def test_warm_where_the_word_is() -> None:
    scores = np.zeros((60, 90), np.float32)
    scores[:, :45] = 1
    (picture,) = decoded(heat_strip(PICTURE, [("car", scores)]))
    assert picture.shape == (60, 90, 3)
    assert (picture[:, :40, 0] > picture[:, :40, 2] + 60).all()
    assert (picture[:, 50:, 2] > picture[:, 50:, 0] + 30).all()


def test_large_pictures_become_small_and_names_are_escaped() -> None:
    large = np.zeros((700, 1000, 3), np.uint8)
    html = heat_strip(large, [("<car>", np.zeros((700, 1000), np.float32)), ("b", np.ones((700, 1000)))])
    assert max(decoded(html)[0].shape) <= 160
    assert "&lt;car&gt;" in html
    assert "<car>" not in html
    assert heat_strip(large, []) == ""


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"map of car is \(3, 4\)"):
        heat_strip(PICTURE, [("car", np.zeros((3, 4), np.float32))])

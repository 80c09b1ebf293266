"""YOLO, VOC, labelme and plain folders of other tools."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.errors import InputError
from tagmask.importers.names_list import names_in_yaml
from tests.importers.conftest import Imported
from tests.importers.made import packed, png

SIZE = (6, 5)
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\ndog:51,221,255::\n"


def area(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[rows, columns] = 1
    return mask


def yolo(folder: Path, line: str, names: str = "names: [cat, dog]\n") -> Path:
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "b.txt").write_text(line)
    (folder / "data.yaml").write_text(names)
    return folder


class TestYolo:
    def test_outlines_of_opencv(self, imported: Imported, tmp_path: Path) -> None:
        """Whole pixels by the sides, with six digits: none may fall into the pixel before."""
        corners = [(1, 2), (3, 2), (3, 5), (1, 5)]
        numbers = " ".join(f"{x / 5:.6f} {y / 6:.6f}" for x, y in corners)
        found = imported("yolo", yolo(tmp_path / "data", f"1 {numbers}\n"))["sub/b.jpg"]
        np.testing.assert_array_equal(found, 2 * area(slice(2, 6), slice(1, 4)))

    def test_the_whole_image_and_an_empty_file(self, imported: Imported, tmp_path: Path) -> None:
        found = imported("yolo", yolo(tmp_path / "data", "0 0 0 1 0 1 1 0 1\n"))
        assert (found["sub/b.jpg"] == 1).all()
        found = imported("yolo", yolo(tmp_path / "empty", ""), replace=True)
        assert (found["sub/b.jpg"] == 0).all()

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("0 0.5 0.5 0.2 0.2", "line 1 of .*b.txt: it is a box"),
            ("0 0.5 0.5 0.2 0.2 1", "5 numbers are no outline"),
            ("0 nan 0.5 0.2 0.2 1 1", "something that is no number"),
            ("0 1e999 0.5 0.2 0.2 1 1", "leaves the image"),
            ("0 0_1 0.5 0.2 0.2 1 1", "something that is no number"),
            ("0 50 50 60 50 60 60", "leaves the image"),
            ("7 0 0 1 0 1 1", "the class 7 has no name"),
            ("x 0 0 1 0 1 1", "the class x has no name"),
            ("0 " + "0 0 1 1 " * 600_000, "outline is too long"),
        ],
        ids=lambda value: value[:20],
    )
    def test_what_is_wrong_is_said(self, imported: Imported, tmp_path: Path, line: str, said: str) -> None:
        with pytest.raises(InputError, match=said):
            imported("yolo", yolo(tmp_path / "data", line))

    def test_names_are_needed(self, imported: Imported, tmp_path: Path) -> None:
        path = yolo(tmp_path / "data", "0 0 0 1 0 1 1")
        (path / "data.yaml").write_text("nc: 2\n")
        with pytest.raises(InputError, match="does not name its classes"):
            imported("yolo", path)
        (path / "classes.txt").write_text("hot dog\ncat\n")
        assert imported("yolo", path)["sub/b.jpg"].max() == 3


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names:\n- cat\n- 'hot  dog'\nnc: 2\n", {0: "cat", 1: "hot  dog"}),
        ('names:\n  0: cat # the first\n\n  2: "d: \\"o\\" # g"\ntrain: x\n', {0: "cat", 2: 'd: "o" # g'}),
        ("names: ['a, b', \"c]\", d]  # three\n", {0: "a, b", 1: "c]", 2: "d"}),
        ("names: {0: cat,\n  1: 'it''s'}\n", {0: "cat", 1: "it's"}),
        ("train: names\n", None),
    ],
)
def test_names_in_a_data_yaml(text: str, names: dict[int, str] | None) -> None:
    assert names_in_yaml(text, "data.yaml") == names


@pytest.mark.parametrize(
    "text",
    [
        "names: &a [*a]\n",
        "names: [a\n",
        "names:\n",
        "names:\n  - a\n  1: b\n",
        "names:\n  0: a\n  0: b\n",
        "names: {0: a, b}\n",
        "names: [[a], b]\n",
        "names: !!python/object:os.system [a]\n",
        "names:\n  99999999999: a\n",
    ],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"names in data\.yaml cannot be read"):
        names_in_yaml(text, "data.yaml")


def voc_png() -> np.ndarray:
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:2] = (250, 50, 83)
    rgb[2:3] = (51, 221, 255)
    rgb[5] = (224, 224, 192)
    return rgb


class TestVoc:
    @pytest.mark.parametrize(
        ("name", "labelmap"),
        [("voc", LABELMAP), ("voc", LABELMAP + "ignored:224,224,192::\n"), ("cvat", LABELMAP)],
    )
    def test_colours_of_the_label_map(
        self, imported: Imported, tmp_path: Path, name: str, labelmap: str
    ) -> None:
        files = {"labelmap.txt": labelmap.encode(), "SegmentationClass/sub/b.png": png(voc_png())}
        found = imported(name, packed(tmp_path / "voc.zip", dict(files)))["sub/b.jpg"]
        assert found[:, 0].tolist() == [1, 1, 2, 0, 0, 255]

    def test_a_palette_in_a_folder_of_its_own(self, imported: Imported, tmp_path: Path) -> None:
        folder = tmp_path / "export" / "task"
        (folder / "SegmentationClass").mkdir(parents=True)
        (folder / "labelmap.txt").write_text(LABELMAP + "cow:1,2,3::\n")
        palette = PILImage.fromarray(voc_png()).convert("P", palette=PILImage.Palette.ADAPTIVE)
        palette.save(folder / "SegmentationClass" / "b.png")
        assert imported("voc", tmp_path / "export")["sub/b.jpg"][:, 0].tolist() == [1, 1, 2, 0, 0, 255]

    @pytest.mark.parametrize(
        ("labelmap", "said"),
        [
            ("cat:250,50,83\n", "has the colour 51,221,255, which labelmap.txt does not name"),
            (LABELMAP.replace("dog", "cow"), "the class 'cow' is no word of the run"),
            (LABELMAP + "x\n", "Line 5 of .* is not name:r,g,b::, but 'x'"),
            (LABELMAP + "x:1,2,256::\n", "Line 5 of"),
            (LABELMAP + "x:250,50,83::\n", "one colour"),
            ("\n", "names no class"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, imported: Imported, tmp_path: Path, labelmap: str, said: str
    ) -> None:
        files = {"labelmap.txt": labelmap.encode(), "SegmentationClass/b.png": png(voc_png())}
        with pytest.raises(InputError, match=said):
            imported("voc", packed(tmp_path / "voc.zip", dict(files)))


def test_cvat_s_own_xml_is_not_read(imported: Imported, tmp_path: Path) -> None:
    xml = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>'
    with pytest.raises(InputError, match=r'Export it from CVAT as "Segmentation mask 1.1" or "COCO 1.0"'):
        imported("cvat", packed(tmp_path / "cvat.zip", {"annotations.xml": xml}))


def labelme(*shapes: object, **more: object) -> dict[str, object]:
    whole = {"version": "5.5.0", "flags": {}, "imagePath": "b.jpg", "imageData": None}
    return whole | {"shapes": list(shapes), "imageHeight": 6, "imageWidth": 5} | more


def shape(kind: str, points: list[list[float]], **more: object) -> dict[str, object]:
    return {"label": "dog", "shape_type": kind, "points": points, "group_id": None, "flags": {}} | more


class TestLabelme:
    @pytest.mark.parametrize(
        ("drawn", "expected"),
        [
            (
                shape("polygon", [[1.9, 1.1], [3.2, 1.8], [3.9, 4.0], [1.0, 4.9]]),
                area(slice(1, 5), slice(1, 4)),
            ),
            (shape("rectangle", [[3.5, 4.5], [1.5, 1.5]]), area(slice(1, 5), slice(1, 4))),
            (shape("circle", [[2.5, 3.5], [2.5, 5.2]]), None),
            (
                shape("mask", [[1.0, 2.0], [2.0, 3.0]], mask=base64.b64encode(png(np.eye(2) > 0)).decode()),
                area(slice(2, 3), slice(1, 2)) + area(slice(3, 4), slice(2, 3)),
            ),
        ],
        ids=["polygon", "rectangle", "circle", "mask"],
    )
    def test_shapes(self, imported: Imported, drawn: dict[str, object], expected: np.ndarray | None) -> None:
        found = imported("labelme", labelme(drawn))["sub/b.jpg"]
        if expected is None:
            assert 9 <= (found == 2).sum() <= 21
            assert (found[3, 1:4] == 2).all()
            assert not found[[0, 0, 0, -1, -1], [0, 2, -1, 0, -1]].any()
        else:
            np.testing.assert_array_equal(found, 2 * expected)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"shapes": []}, "imagePath of it is None"),
            ([], "not a file of labelme"),
            (labelme(imageHeight=7), r"gives its size as \(7, 5\)"),
            (labelme(3), "shape 1 of .*: it is 3, not an object"),
            (labelme(shape("linestrip", [[0, 0], [1, 1]])), "a linestrip of 2 points covers no area"),
            (
                labelme(shape("polygon", [[0, 0], [1, "1"], [2, 2]])),
                r"a point of it is \[1, '1'\], not x and y",
            ),
            (labelme(shape("polygon", [[0, 0], [1, 1e9], [2, 2]])), "far outside"),
            (labelme(shape("mask", [[0, 0], [9, 9]], mask="")), "its box"),
            (labelme(shape("mask", [[0, 0], [1, 1]], mask="é")), "not in Base64"),
            (labelme(shape("mask", [[0, 0], [1, 1]], mask="AAAA")), "its mask cannot be read"),
            (
                labelme(shape("mask", [[0, 0], [1, 1]], mask=base64.b64encode(png(np.eye(3) > 0)).decode())),
                "its mask has 3 x 3 pixels",
            ),
            (labelme(shape("polygon", [[0, 0], [1, 1], [2, 2]], label="cow")), "'cow' is no word of the run"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_what_is_wrong_is_said(self, imported: Imported, content: object, said: str) -> None:
        with pytest.raises(InputError, match=said):
            imported("labelme", content)


class TestFolder:
    def folder(self, tmp_path: Path, values: np.ndarray, classes: str = "background\ndog\ncat\n") -> Path:
        (tmp_path / "data" / "masks" / "sub").mkdir(parents=True)
        (tmp_path / "data" / "classes.txt").write_text(classes)
        (tmp_path / "data" / "masks" / "sub" / "b.png").write_bytes(png(values))
        return tmp_path / "data"

    def test_values_are_of_its_own_classes(self, imported: Imported, tmp_path: Path) -> None:
        values = np.zeros(SIZE, np.uint8)
        values[0], values[1], values[2] = 1, 2, 255
        found = imported("folder", self.folder(tmp_path, values))["sub/b.jpg"]
        assert found[:, 0].tolist() == [2, 1, 255, 0, 0, 0]

    def test_a_folder_for_each_split(self, imported: Imported, tmp_path: Path) -> None:
        path = self.folder(tmp_path, np.full(SIZE, 1, np.uint8)).rename(tmp_path / "train")
        (tmp_path / "all").mkdir()
        path.rename(tmp_path / "all" / "train")
        other = self.folder(tmp_path, np.full(SIZE, 1, np.uint8), "cat\ndog\n")
        (other / "masks" / "sub" / "b.png").rename(other / "masks" / "c.png")
        other.rename(tmp_path / "all" / "val")
        assert (imported("folder", tmp_path / "all")["sub/b.jpg"] == 2).all()

    def test_classes_json_of_another_run(self, imported: Imported, tmp_path: Path) -> None:
        path = self.folder(tmp_path, np.full(SIZE, 1, np.uint8))
        (path / "classes.txt").unlink()
        described = {"ignore_index": 1, "classes": [{"index": 0, "name": "cat", "colour": [0, 0, 0]}]}
        (path / "classes.json").write_text(json.dumps(described))
        assert (imported("folder", path)["sub/b.jpg"] == 255).all()

    @pytest.mark.parametrize(
        ("values", "classes", "said"),
        [
            (np.full(SIZE, 9, np.uint8), "background\n", "has the value 9, which classes.txt does not name"),
            (np.zeros(SIZE, np.uint8), "\n", "has an empty line"),
            (np.zeros((5, 6), np.uint8), "background\n", "has 5 x 6 pixels"),
            (np.zeros((*SIZE, 3), np.uint8), "background\n", "holds no class indices"),
        ],
        ids=["value", "line", "size", "colours"],
    )
    def test_what_is_wrong_is_said(
        self, imported: Imported, tmp_path: Path, values: np.ndarray, classes: str, said: str
    ) -> None:
        with pytest.raises(InputError, match=said):
            imported("folder", self.folder(tmp_path, values, classes))

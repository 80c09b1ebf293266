"""The real Label Studio: it connects, retrieves predictions, imports ours, shows the masks, exports them."""

import io
import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageDraw

from tagmask import Segmenter
from tagmask.clip.load import Clip
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.regions import components
from tagmask.regions.run_lengths import brush_mask, brush_rle
from tests.app.label_studio_site import BROWSER_PYTHON, Site, label_studio, tagmask_serve

pytestmark = pytest.mark.bridges

LABELS = """
    <{0} value="Instrument" hint="guitar" background="#ff00ff"/>
    <{0} value="Fruit" alias="apple" background="#0000ff"/>
    <{0} value="umbrella" background="#ffff00"/>
    <{0} value="fish" background="#00ffff"/>
"""
CONFIG = f"""
<View>
  <Image name="photo" value="$image"/>
  <BrushLabels name="mask" toName="photo">{LABELS.format("Label")}</BrushLabels>
  <Choices name="tags" toName="photo" choice="multiple" showInline="true">{LABELS.format("Choice")}</Choices>
</View>
"""
NAMES = {"guitar": "Instrument", "apple": "apple", "umbrella": "umbrella", "fish": "fish"}
"""The labels of the prompts, as Label Studio stores them."""
COLOURS = {
    "Instrument": (255, 0, 255),
    "apple": (0, 0, 255),
    "umbrella": (255, 255, 0),
    "fish": (0, 255, 255),
}
VERSION = "tagmask sclip miniature"
MIN_AREA = 100
OPTIONS = ["--precision=float32", "--refine=pamr", "--regions=component", f"--min-area={MIN_AREA}"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with label_studio(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


@pytest.fixture(scope="module")
def backend(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address and the log of `tagmask serve`."""
    log = tmp_path_factory.mktemp("serve") / "log"
    with tagmask_serve(site, site.personal_access_token(), log, *OPTIONS) as url:
        yield url, log


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return unseen_scene(6).image


def encoded(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def masks(result: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The mask of each label: all its regions."""
    found: dict[str, np.ndarray] = {}
    for each in (each for each in result if each["type"] == "brushlabels"):
        (name,) = each["value"]["brushlabels"]
        size = each["original_height"], each["original_width"]
        region = brush_mask(np.array(each["value"]["rle"]), size)
        found[name] = found.get(name, np.zeros(size, bool)) | region
    return found


@pytest.fixture(scope="module")
def expected(miniature: Clip, image: np.ndarray) -> dict[str, np.ndarray]:
    seg = Segmenter(miniature, list(NAMES), pamr_steps=10)(image)
    found: dict[str, np.ndarray] = {}
    for region in components(seg.labels, 1, len(seg.words), MIN_AREA):
        name = NAMES[seg.words[region.label]]
        found[name] = found.get(name, np.zeros(seg.labels.shape, bool)) | region.full(image.shape[:2])
    assert {"Instrument", "apple", "umbrella"} <= found.keys()
    return found


@pytest.fixture(scope="module")
def project(site: Site, backend: tuple[str, Path], image: np.ndarray) -> int:
    """A project with an uploaded photo and one that cannot be reached, and predictions of both."""
    number = site.create_project("predictions", CONFIG)
    site.upload(number, "photo.png", encoded(image))
    site.import_tasks(number, [{"data": {"image": "http://127.0.0.1:1/unreachable.png"}}])
    site.post("/api/ml/", json={"url": backend[0], "project": number, "title": "tagmask"})
    site.act("retrieve_tasks_predictions", number)
    return number


def same_masks(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in found)


def test_predictions_reach_label_studio(
    site: Site, backend: tuple[str, Path], project: int, expected: dict[str, np.ndarray]
) -> None:
    first, second = site.tasks(project)
    (prediction,) = site.predictions(first["id"])
    assert prediction["model_version"] == VERSION
    assert same_masks(masks(prediction["result"]), expected)
    choices = [each["value"]["choices"] for each in prediction["result"] if each["type"] == "choices"]
    assert choices
    assert {"Instrument", "apple"} <= set(choices[0]) <= set(NAMES.values())

    (failed,) = site.predictions(second["id"])
    assert (failed["result"], failed["model_version"]) == ([], f"{VERSION}, failed")
    assert "127.0.0.1, port 1, is not allowed" in backend[1].read_text()

    # Only the task that failed is asked for again.
    site.act("retrieve_tasks_predictions", project)
    assert len(site.predictions(first["id"])) == 1
    assert len(site.predictions(second["id"])) == 2


def test_a_password_is_sent(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMASK_PASSWORD", "pw")
    with tagmask_serve(site, "", tmp_path / "log", "--user", "ann") as url:
        project = site.create_project("password", CONFIG)
        body = {"url": url, "project": project, "title": "tagmask", "auth_method": "BASIC_AUTH"}
        site.post("/api/ml/", 400, json={**body, "basic_auth_user": "ann", "basic_auth_pass": "wrong"})
        answer = site.post("/api/ml/", json={**body, "basic_auth_user": "ann", "basic_auth_pass": "pw"})
    assert (answer["state"], answer["model_version"]) == ("CO", VERSION)


@pytest.fixture(scope="module")
def imported(site: Site, project: int, expected: dict[str, np.ndarray]) -> int:
    """A project whose tasks were imported with their predictions."""
    number = site.create_project("imported", CONFIG)
    address = next(task for task in site.tasks(project) if "upload" in task["data"]["image"])["data"]["image"]
    site.import_tasks(number, [{"data": {"image": address}, "predictions": [exported(expected)]}])
    return number


def exported(expected: dict[str, np.ndarray]) -> dict[str, Any]:
    """A prediction as `tagmask export --to label-studio` writes it."""
    common = {"to_name": "photo", "origin": "manual", "image_rotation": 0}
    result: list[dict[str, Any]] = [
        {
            **common,
            "id": f"r{i}",
            "type": "brushlabels",
            "from_name": "mask",
            "original_width": mask.shape[1],
            "original_height": mask.shape[0],
            "value": {"format": "rle", "rle": brush_rle(mask), "brushlabels": [name]},
            "score": 0.75,
        }
        for i, (name, mask) in enumerate(expected.items())
    ]
    choices = {"choices": list(expected)}
    result.append({**common, "id": "c", "type": "choices", "from_name": "tags", "value": choices})
    return {"model_version": "tagmask", "score": 0.75, "result": result}


def test_exported_tasks_are_imported(site: Site, imported: int, expected: dict[str, np.ndarray]) -> None:
    (task,) = site.tasks(imported)
    (prediction,) = site.predictions(task["id"])
    assert prediction["score"] == 0.75
    assert same_masks(masks(prediction["result"]), expected)


@pytest.mark.parametrize("source", ["project", "imported"])
def test_masks_are_visible_in_its_page(
    source: str,
    site: Site,
    expected: dict[str, np.ndarray],
    image: np.ndarray,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    project = request.getfixturevalue(source)
    task = site.tasks(project)[0]["id"]
    picture = tmp_path / "page.png"
    script = Path(__file__).with_name("label_studio_page.py")
    url = f"{site.url}/projects/{project}/data?task={task}"
    arguments = [BROWSER_PYTHON, script, url, json.dumps(site.cookies), picture]
    done = subprocess.run(arguments, check=True, timeout=900, stdout=subprocess.PIPE)
    box = json.loads(done.stdout)

    corners = box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
    with PILImage.open(picture) as page:
        shown = np.asarray(
            page.convert("RGB").resize(image.shape[1::-1], PILImage.Resampling.BOX, corners), float
        )
    photo = image.astype(float)
    for name, mask in expected.items():
        colour = np.array(COLOURS[name], float)
        before, after = (np.linalg.norm(pixels[mask] - colour, axis=1) for pixels in (photo, shown))
        assert np.median(after / before) < 0.8, name
    outside = ~np.logical_or.reduce(list(expected.values()))
    assert np.median(np.abs(shown - photo)[outside]) < 8


def test_exports_hold_the_same_masks(site: Site, imported: int, expected: dict[str, np.ndarray]) -> None:
    site.act("predictions_to_annotations", imported)
    (task,) = json.loads(site.export(imported, "JSON"))
    assert same_masks(masks(task["annotations"][0]["result"]), expected)

    with zipfile.ZipFile(io.BytesIO(site.export(imported, "BRUSH_TO_PNG"))) as archive:
        found = {}
        for name in archive.namelist():
            with archive.open(name) as file, PILImage.open(file) as png:
                found[name.split("-mask-")[1].rsplit("-", 1)[0]] = np.asarray(png) > 0
    assert same_masks(found, expected)

    with zipfile.ZipFile(io.BytesIO(site.export(imported, "BRUSH_TO_COCO"))) as archive:
        coco = json.loads(archive.read("result_coco.json"))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    for name, mask in expected.items():
        drawn = PILImage.new("1", mask.shape[::-1])
        for each in coco["annotations"]:
            if names[each["category_id"]] == name:
                ImageDraw.Draw(drawn).polygon(each["segmentation"][0], fill=1, outline=1)
        # Outlines through the centres of pixels, without holes.
        assert (np.asarray(drawn) >= mask).mean() > 0.999, name

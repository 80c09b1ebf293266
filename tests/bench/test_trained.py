"""Trained networks in benchmarks: recipes with the paper's protocol, and models of any file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.bench import trained
from tagmask.bench.trained import TRAINED, TrainedModel, TrainedRecipe, read_model_file, trained_recipe
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.weak.config_files import load_config
from tagmask.weak.model import WeakClip
from tagmask.weak.model_file import load_published, published_tensors
from tagmask.weak.multiscale import TTAConfig
from tagmask.weak.pseudo import pseudo_mask
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.evaluate import EVALUATIONS
from tagmask.weak.students.student import Student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, save_student

VOC = load_config("weakclip/voc").model.words


def test_protocols_are_the_paper_s() -> None:
    for data, crf in (("voc2012", "weakclip/voc"), ("coco2014", "weakclip/coco")):
        recipe = TRAINED[f"weakclip/{data}"]
        views = TTAConfig()
        assert (recipe.scales, recipe.flip, recipe.crf) == (views.scales, views.flip, crf)
    for data, name in (("voc2012", "paper/voc"), ("coco2014", "paper/coco")):
        recipe, settings = TRAINED[f"student/{data}"], EVALUATIONS[name]
        assert (recipe.scales, recipe.flip, recipe.crf) == (settings.scales, settings.flip, settings.crf)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"scale": 1}, "has no setting scale"),
        ({"name": "x"}, "has no setting name"),
        ({"scales": ()}, "scales is empty"),
        ({"crf": "nope"}, "Unknown crf"),
        ({"flip": 3}, "flip"),
        ({"numbering": "raw"}, "Unknown numbering"),
    ],
)
def test_invalid_settings_are_refused(settings: Mapping[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        trained_recipe("weakclip/voc2012", settings)


def students(path: Path, words: tuple[str, ...] = VOC) -> TrainedStudent:
    net = build_student("small", len(words), width=8).eval()
    student = TrainedStudent(StudentCard("small", words, True, {"width": 8}), net)
    save_student(path, student)
    return student


def test_a_student_s_file_is_run_with_the_recipe(tmp_path: Path, shapes: list[np.ndarray]) -> None:
    student = students(tmp_path / "student.safetensors")
    file = read_model_file(tmp_path / "student.safetensors")
    assert (file.method, file.training, file.run) == ("student", {"model.kind": "small"}, None)
    recipe = trained_recipe("student/voc2012", {"scales": (0.5, 1.0)})
    model = TrainedModel(file, recipe, VOC, device="cpu")
    image = shapes[1][:64, :72].copy()
    expected = Student(student, EVALUATIONS["paper/voc"], scales=(0.5, 1.0))(image).labels
    np.testing.assert_array_equal(model.segment(image), expected)
    with pytest.raises(InputError, match=r"is a student, but weakclip/voc2012 scores a weakclip"):
        TrainedModel(file, TRAINED["weakclip/voc2012"], VOC, device="cpu")
    with pytest.raises(InputError, match="The model has 21 classes, the data set 3"):
        TrainedModel(file, recipe, VOC[:3], device="cpu")


def test_a_checkpoint_in_the_authors_layout_gets_their_names(
    sclip_model: Clip, tmp_path: Path, shapes: list[np.ndarray]
) -> None:
    path = tmp_path / "released.pth"
    torch.save({"state_dict": published_tensors(WeakClip.of(sclip_model, VOC, seed=3))}, path)
    file = read_model_file(path)
    assert (file.method, file.run) == ("weakclip", None)
    recipe = trained_recipe("weakclip/voc2012", {"scales": (0.5,), "flip": False})
    model = TrainedModel(file, recipe, VOC, device="cpu")
    views = TTAConfig(scales=(0.5,), flip=False)
    image = shapes[1][:64, :72].copy()
    expected = pseudo_mask(load_published(path, VOC), image, CRF_SETTINGS["weakclip/voc"], views)
    np.testing.assert_array_equal(model.segment(image), expected)


def test_checkpoints_with_other_numbers_of_classes_are_refused(sclip_model: Clip, tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save(published_tensors(WeakClip.of(sclip_model, VOC[:3])), path)
    with pytest.raises(InputError, match=r"The checkpoint has 3 classes\. The authors' have 21, 81, 91"):
        TrainedModel(read_model_file(path), TRAINED["weakclip/voc2012"], VOC[:3], device="cpu")
    with pytest.raises(InputError, match="There is no model"):
        read_model_file(tmp_path / "none")


def test_labels_of_coco_s_raw_ids_become_those_of_the_data_set() -> None:
    raw, annotated = (load_config(f"weakclip/{name}").model.words for name in ("coco-raw91", "coco"))

    def table(numbering: str, words: tuple[str, ...] = raw) -> np.ndarray:
        recipe = TrainedRecipe(name="x", method="weakclip", scales=(1.0,), numbering=numbering)
        return trained._label_table(words, annotated, recipe)

    by_name = table("raw91")
    assert [annotated[by_name[raw.index(name)]] for name in ("person", "stop sign", "toothbrush")] == [
        "person", "stop sign", "toothbrush"
    ]  # fmt: skip
    assert by_name[raw.index("street sign")] == 255
    assert sorted(by_name)[:81] == list(range(81))
    first = table("first81")
    assert first[:81].tolist() == list(range(81))
    assert (first[81:] == 255).all()
    assert table("same", annotated).tolist() == list(range(81))
    with pytest.raises(InputError, match=r"The model has 91 classes, the data set 81.*numbering=raw91"):
        table("same")
    with pytest.raises(InputError, match="The model has 81 classes, the data set 81"):
        table("raw91", annotated)

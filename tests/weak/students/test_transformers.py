"""Students of the transformers package: parameter counts, shapes, weights from a folder.

Runs in a separate environment (make students-test).
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tagmask.errors import WeightsError
from tagmask.weak.students.catalogue import STUDENTS, build_student, parameter_groups
from tagmask.weak.students.evaluate import EVALUATIONS, predict
from tagmask.weak.students.segformer import SIZES
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, load_student, save_student

pytestmark = [pytest.mark.students, pytest.mark.filterwarnings("ignore")]

NAMES = [*SIZES, "deit-s"]


def segformer_parameters(depths: list[int], widths: list[int], head: int, classes: int) -> int:
    """By the paper: patch embedding, attention with reduced keys, feed-forward with a depthwise 3x3, head."""
    total, before = 0, 3
    for depth, width, side, reduction in zip(depths, widths, (7, 3, 3, 3), (8, 4, 2, 1), strict=True):
        total += before * width * side * side + width + 2 * width
        attention = 4 * (width * width + width)
        if reduction > 1:
            attention += width * width * reduction**2 + width + 2 * width
        inner = 4 * width
        forward = width * inner + inner + 9 * inner + inner + inner * width + width
        total += depth * (attention + forward + 4 * width) + 2 * width
        before = width
    total += sum(width * head + head for width in widths)
    return total + 4 * head * head + 2 * head + head * classes + classes


TABLE = {
    "segformer-b0": ([2, 2, 2, 2], [32, 64, 160, 256], 256),
    "segformer-b1": ([2, 2, 2, 2], [64, 128, 320, 512], 256),
    "segformer-b2": ([3, 4, 6, 3], [64, 128, 320, 512], 768),
}


@pytest.mark.parametrize("name", TABLE)
def test_segformer_parameter_counts(name: str) -> None:
    wanted = segformer_parameters(*TABLE[name], 21)
    print(name, f"{wanted:,}")
    assert sum(p.numel() for p in build_student(name, 21).parameters()) == wanted


def test_deit_parameter_count() -> None:
    block = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    trunk = 384 + 197 * 384 + 3 * 256 * 384 + 384 + 12 * block + 2 * 384
    print("deit-s", f"{trunk + 384 * 21 + 21:,}")
    assert sum(p.numel() for p in build_student("deit-s", 21).parameters()) == trunk + 384 * 21 + 21


@pytest.mark.parametrize("name", ["segformer-b0", "deit-s"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (7, 7)])
def test_grid_matches_the_kind(name: str, rows: int, columns: int) -> None:
    kind = STUDENTS[name]
    h, w = rows * kind.multiple, columns * kind.multiple
    with torch.no_grad():
        logits = build_student(name, 5).eval()(torch.randn(2, 3, h, w))
    assert logits.shape == (2, 5, h // kind.stride, w // kind.stride)


@pytest.mark.parametrize("name", ["segformer-b0", "deit-s"])
def test_groups_hold_every_parameter_once(name: str) -> None:
    net = build_student(name, 5)
    groups = parameter_groups(name, net)
    assert {(g.factor, g.decays) for g in groups} == {(1.0, True), (1.0, False), (10.0, True), (10.0, False)}
    grouped = [id(p) for g in groups for p in g.parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in net.parameters()}
    last = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]
    assert any(last.weight is p for g in groups if (g.factor, g.decays) == (10.0, True) for p in g.parameters)


@pytest.mark.parametrize("name", ["segformer-b0", "deit-s"])
def test_round_trip_and_labels_of_odd_sizes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = StudentCard(name, ("background", "cat", "dog"), True)
    save_student(tmp_path / "s.safetensors", TrainedStudent(card, build_student(name, 3)))
    found = load_student(tmp_path / "s.safetensors")
    image = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
    labels = predict(found, image, EVALUATIONS["plain"]).labels
    assert labels.shape == (50, 71)
    again = predict(load_student(tmp_path / "s.safetensors"), image, EVALUATIONS["plain"]).labels
    assert np.array_equal(labels, again)


def saved(kind: str, folder: Path) -> nn.Module:
    """Save a folder as on the Hub: an ImageNet classifier, of which only the trunk is used."""
    import transformers

    torch.manual_seed(9)
    if kind == "mit-b0":
        net = transformers.SegformerForImageClassification(transformers.SegformerConfig(num_labels=7))
    elif kind == "ade":
        net = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=150))
    else:
        net = transformers.ViTForImageClassification(
            transformers.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
        )
    net.save_pretrained(folder)
    return net


@pytest.mark.parametrize("kind", ["mit-b0", "ade"])
def test_segformer_from_a_folder(kind: str, tmp_path: Path) -> None:
    given = saved(kind, tmp_path / "hub").state_dict()
    net = build_student("segformer-b0", 4, weights=tmp_path / "hub").state_dict()
    trunk = [name for name in given if name.startswith("segformer.")]
    assert len(trunk) > 100
    assert all(torch.equal(net[f"net.{name}"], given[name]) for name in trunk)
    assert net["net.decode_head.classifier.weight"].shape[0] == 4


def test_deit_from_a_folder(tmp_path: Path) -> None:
    given = saved("deit", tmp_path / "hub").state_dict()
    net = build_student("deit-s", 4, weights=tmp_path / "hub").state_dict()
    trunk = [name for name in given if name.startswith("vit.")]
    assert len(trunk) > 100
    assert all(torch.equal(net[name.replace("vit.", "trunk.", 1)], given[name]) for name in trunk)


@pytest.mark.parametrize(("student", "kind"), [("segformer-b1", "mit-b0"), ("deit-s", "mit-b0")])
def test_a_folder_of_another_network_is_refused(student: str, kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path / "hub")
    with pytest.raises(WeightsError, match=f"does not have the weights of '{student}'"):
        build_student(student, 4, weights=tmp_path / "hub")


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not a folder"):
        build_student("segformer-b0", 4, weights=tmp_path / "none")
    with pytest.raises(WeightsError, match="cannot be read as weights of 'segformer-b0'"):
        build_student("segformer-b0", 4, weights=tmp_path)


def test_a_folder_with_nan_is_refused(tmp_path: Path) -> None:
    net = saved("mit-b0", tmp_path / "hub")
    next(net.parameters()).data[0] = torch.nan
    net.save_pretrained(tmp_path / "hub")
    with pytest.raises(WeightsError, match=r"hub holds NaN or infinite values, in segformer\."):
        build_student("segformer-b0", 4, weights=tmp_path / "hub")

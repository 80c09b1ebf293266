"""Several scales, flips and resizing: against loops over pixels, and PyTorch's own interpolation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tagmask.errors import InputError, WeightsError
from tagmask.refine.crf import CRF_SETTINGS, dense_crf
from tagmask.weak.students import evaluate
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.evaluate import EVALUATIONS, EvaluationSettings, predict
from tagmask.weak.students.student_file import StudentCard, TrainedStudent

WORDS = ("background", "cat", "dog", "bird")


def student(name: str) -> TrainedStudent:
    """A random network whose logits differ from place to place."""
    torch.manual_seed(2)
    settings: dict[str, int] = {"small": {"width": 8}, "deeplab-resnet38": {"base": 1, "hidden": 8}}[name]
    net = build_student(name, len(WORDS), **settings).eval()
    last = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == len(WORDS)][-1]
    torch.nn.init.normal_(last.weight, std=2.0)
    if last.bias is not None:  # so that no class wins everywhere
        with torch.no_grad():
            last.bias -= net(torch.randn(1, 3, 64, 64)).mean((0, 2, 3))
    return TrainedStudent(StudentCard(name, WORDS, True, settings), net)


def make_image(h: int, w: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 4, 5)))
    fine = functional.interpolate(coarse, size=(h, w), mode="bilinear")[0].permute(1, 2, 0).numpy()
    return np.clip(fine + rng.normal(0, 8, fine.shape), 0, 255).astype(np.uint8)


def cubic(t: float) -> float:
    """OpenCV's and PyTorch's kernel, a = -0.75."""
    t = abs(t)
    if t <= 1:
        return 1.25 * t**3 - 2.25 * t**2 + 1
    return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def matrix(source: int, target: int) -> np.ndarray:
    """Row y: weights of the source pixels for pixel y of the resized axis."""
    weights = np.zeros((target, source))
    for y in range(target):
        at = (y + 0.5) * source / target - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[y, min(max(tap, 0), source - 1)] += cubic(at - tap)
    return weights


def sample(plane: np.ndarray, y: float, x: float) -> float:
    gh, gw = plane.shape
    y, x = min(max(y, 0), gh - 1), min(max(x, 0), gw - 1)
    i, j = int(y), int(x)
    below, right = min(i + 1, gh - 1), min(j + 1, gw - 1)
    upper = plane[i, j] * (1 - (x - j)) + plane[i, right] * (x - j)
    lower = plane[below, j] * (1 - (x - j)) + plane[below, right] * (x - j)
    return float(upper * (1 - (y - i)) + lower * (y - i))


def naive(trained: TrainedStudent, image: np.ndarray, scales: tuple[float, ...], flip: bool) -> np.ndarray:
    """Mean logits at the image's size, one view and one pixel at a time."""
    kind = trained.card.kind
    h0, w0, _ = image.shape
    total = np.zeros((len(WORDS), h0, w0))
    views = [(scale, mirrored) for scale in scales for mirrored in ([False, True] if flip else [False])]
    for scale, mirrored in views:
        h, w = round(h0 * scale), round(w0 * scale)
        scaled = np.einsum("yi,ijc,xj->cyx", matrix(h0, h), image.astype(float), matrix(w0, w))
        scaled = scaled.clip(0, 255)
        if mirrored:
            scaled = scaled[:, :, ::-1]
        ph, pw = (math.ceil(side / kind.multiple) * kind.multiple for side in (h, w))
        padded = np.zeros((1, 3, ph, pw))
        for c in range(3):
            padded[0, c, :h, :w] = (scaled[c] / 255 - trained.card.mean[c]) / trained.card.std[c]
        planes = trained.net(torch.from_numpy(padded).float())[0].detach().numpy()
        gh, gw = planes.shape[1:]
        for y in range(h0):
            for x in range(w0):
                column = w0 - 1 - x if mirrored else x
                if kind.aligned:
                    at = y * (gh - 1) / (h0 - 1), column * (gw - 1) / (w0 - 1)
                else:
                    at = (
                        (y + 0.5) * h / h0 * gh / ph - 0.5,
                        (column + 0.5) * w / w0 * gw / pw - 0.5,
                    )
                for k in range(len(WORDS)):
                    total[k, y, x] += sample(planes[k], *at) / len(views)
    return total


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(0))
    return raised / raised.sum(0)


@pytest.mark.parametrize("name", ["small", "deeplab-resnet38"])
@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.5, 1.0, 1.25), True)])
def test_scores_match_naive_loops(name: str, scales: tuple[float, ...], flip: bool) -> None:
    trained, image = student(name), make_image(37, 45)
    found = predict(trained, image, EvaluationSettings(scales, flip), keep_scores=True)
    wanted = softmax(naive(trained, image, scales, flip))
    assert found.scores is not None
    np.testing.assert_allclose(found.scores, wanted, atol=2e-5)
    clear = np.sort(wanted, 0)[-1] - np.sort(wanted, 0)[-2] > 1e-4
    assert clear.mean() > 0.9
    assert len(np.unique(found.labels)) > 1
    assert np.array_equal(found.labels[clear], wanted.argmax(0)[clear])


@pytest.mark.parametrize("name", ["small", "deeplab-resnet38"])
def test_a_single_pass_matches_pytorchs_interpolation(name: str) -> None:
    trained, image = student(name), make_image(64, 96)
    kind = trained.card.kind
    pixels: Tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (trained.card.mean, trained.card.std))
    logits = functional.interpolate(
        trained.net((pixels - mean) / std), size=(64, 96), mode="bilinear", align_corners=kind.aligned
    )
    found = predict(trained, image, EVALUATIONS["plain"], keep_scores=True)
    np.testing.assert_allclose(found.scores, logits.softmax(1)[0].detach().numpy(), atol=2e-6)


def test_mirrored_images_give_mirrored_labels() -> None:
    trained, image = student("small"), make_image(50, 70)
    both = EvaluationSettings((0.75, 1.0), flip=True)
    one = predict(trained, image, both, keep_scores=True).scores
    other = predict(trained, image[:, ::-1].copy(), both, keep_scores=True).scores
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(other[:, :, ::-1], one, atol=1e-5)
    alone = predict(trained, image[:, ::-1].copy(), EvaluationSettings(), keep_scores=True).scores
    plain = predict(trained, image, EvaluationSettings(), keep_scores=True).scores
    assert alone is not None
    assert plain is not None
    assert np.abs(alone[:, :, ::-1] - plain).max() > 1e-3


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, image = student("small"), make_image(41, 33)
    settings = EvaluationSettings((0.5, 1.0), flip=True)
    whole = predict(trained, image, settings, keep_scores=True)
    monkeypatch.setattr(evaluate, "_STRIP", 4 * 33 * 3)
    parts = predict(trained, image, settings, keep_scores=True)
    assert np.array_equal(parts.labels, whole.labels)
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-7)


def test_the_crf_gets_only_the_classes_of_the_argmax() -> None:
    trained, image = student("small"), make_image(37, 45)
    settings = EvaluationSettings((0.5, 1.0), flip=True, crf="weakclip/student-voc")
    logits = naive(trained, image, settings.scales, True)
    kept = np.unique(logits.argmax(0))
    assert 1 < len(kept) < len(WORDS)
    field = CRF_SETTINGS["weakclip/student-voc"]
    refined = dense_crf(torch.from_numpy(softmax(logits[kept])).float(), image, field).numpy()
    found = predict(trained, image, settings, keep_scores=True)
    assert found.scores is not None
    np.testing.assert_allclose(found.scores[kept], refined, atol=2e-3)
    assert not found.scores[[k for k in range(len(WORDS)) if k not in kept]].any()
    assert (found.labels != kept[refined.argmax(0)]).mean() < 0.005
    assert (found.labels != predict(trained, image, replace(settings, crf=None)).labels).any()


def test_large_images_are_downscaled_and_labels_keep_their_size() -> None:
    trained, image = student("small"), make_image(40, 120)
    small = predict(trained, image, EvaluationSettings(longest=60))
    assert small.labels.shape == (40, 120)
    reduced = functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), size=(20, 60), mode="bicubic", antialias=True
    )
    # What the network sees is the smooth reduction: labels agree but for rounding to bytes.
    bytes_ = reduced.clamp(0, 255).round().byte()[0].permute(1, 2, 0).numpy()
    scores = predict(trained, bytes_, EvaluationSettings(longest=None), keep_scores=True).scores
    assert scores is not None
    wide = functional.interpolate(torch.from_numpy(scores)[None], size=(40, 120), mode="bilinear")[0].argmax(
        0
    )
    assert (wide.numpy() == small.labels).mean() > 0.95
    assert not np.array_equal(predict(trained, image, EvaluationSettings(longest=None)).labels, small.labels)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 2)])
def test_tiny_images_have_labels(size: tuple[int, int]) -> None:
    for name in ("small", "deeplab-resnet38"):
        found = predict(student(name), np.full((*size, 3), 7, np.uint8), EVALUATIONS["paper/voc"])
        assert found.labels.shape == size


def test_many_classes_give_uint16_labels() -> None:
    words = tuple(f"word {i}" for i in range(300))
    net = build_student("small", 300, width=8).eval()
    trained = TrainedStudent(StudentCard("small", words, False, {"width": 8}), net)
    assert predict(trained, make_image(33, 32), EvaluationSettings()).labels.dtype == np.uint16


def test_the_papers_settings() -> None:
    paper = EVALUATIONS["paper/voc"]
    assert (paper.scales, paper.flip, paper.longest) == ((0.5, 0.75, 1.0, 1.25, 1.5), True, None)
    field = CRF_SETTINGS[paper.crf or ""]
    assert (field.near, field.near_weight, field.far, field.colour, field.colour_weight, field.rounds) == (
        1, 3, 112, 2, 3, 10,
    )  # fmt: skip
    coco = CRF_SETTINGS[EVALUATIONS["paper/coco"].crf or ""]
    assert (coco.near, coco.near_weight, coco.far, coco.colour, coco.colour_weight) == (1, 3, 67, 3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": ()}, "scales is empty"),
        ({"scales": (0.0,)}, "scale is 0.0"),
        ({"crf": "none"}, "Unknown crf 'none'"),
        ({"longest": 8}, "longest is 8"),
    ],
)
def test_settings_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EvaluationSettings(**change)  # type: ignore[arg-type]


def test_scores_that_are_no_numbers_are_reported() -> None:
    trained = student("small")
    trained.net.classifier.bias.data[1] = torch.inf
    with pytest.raises(WeightsError, match="The student's scores are NaN or infinite"):
        predict(trained, make_image(40, 50), EVALUATIONS["plain"])

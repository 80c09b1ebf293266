"""Labels found without the scores of all classes, against the plain formula."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tagmask.dense import best_texts, labels
from tagmask.dense.cosine_maps import CosineMaps, stitch
from tagmask.dense.labels import PixelLabels, label_pixels
from tagmask.dense.prompts import Names
from tagmask.dense.sliding import SlidingSettings
from tagmask.dense.windows import plan_windows, resize_matrix, stitch_matrices
from tagmask.refine.pamr import held_numbers, pamr

IGNORE = 65535
SCALE = 50.0


def photo_maps(texts: int, size: tuple[int, int], *, noise: float = 0.015) -> CosineMaps:
    """Cosines as of windows of 224 pixels: all texts rise and fall together, and neighbours differ."""
    scaled = 336, 448
    plan = plan_windows(scaled, 224, 112)
    generator = torch.Generator().manual_seed(texts)
    shared = 0.3 * torch.rand(len(plan), 1, 14, 14, generator=generator)
    own = 0.06 * torch.rand(1, texts, 1, 1, generator=generator)
    other = noise * torch.randn(len(plan), texts, 14, 14, generator=generator)
    down, across = stitch_matrices(plan, (14, 14), scaled, size)
    return stitch(shared + own + other, plan, down, across, torch.randn(3, *scaled, generator=generator))


def names_of(texts: int, background: int) -> Names:
    """The first `background` texts are one class; all others are classes of one or two texts."""
    first = int(background > 0)
    owners = [0] * background + [first + i * 2 // 3 for i in range(texts - background)]
    classes = owners[-1] + 1
    return Names(tuple(map(str, range(classes))), tuple(map(str, range(texts))), tuple(owners))


@dataclass
class Plain:
    """The formula, with the scores of all texts at full size."""

    scores: Tensor
    labels: Tensor
    best: Tensor
    doubtful: Tensor
    """Pixels that rounding decides."""

    @classmethod
    def of(cls, maps: CosineMaps, names: Names, settings: SlidingSettings, background: bool) -> "Plain":
        cosines = maps.down.double() @ maps.cosines.double() @ maps.across.T.double()
        if settings.pamr_steps:
            guide = resize_matrix(maps.pixels.shape[1], maps.size[0]) @ maps.pixels
            guide = guide @ resize_matrix(maps.pixels.shape[2], maps.size[1]).T
            refined = pamr(
                cosines.float(), guide, steps=settings.pamr_steps, dilations=settings.pamr_dilations
            )
            cosines = refined.double()
        probabilities = torch.softmax(cosines * settings.logit_scale, dim=0)
        owners = torch.tensor(names.owners)
        scores = torch.stack([probabilities[owners == c].amax(dim=0) for c in range(len(names.classes))])
        if settings.area_thd is not None:
            areas = torch.bincount(scores.argmax(dim=0).flatten(), minlength=len(scores))
            for c in range(int(background), len(scores)):
                if areas[c] <= settings.area_thd * areas[int(background) :].sum():
                    scores[c] = 0
        first, second = scores.topk(2, dim=0).values
        low = first < settings.prob_thd
        found = torch.where(low, 0 if background else IGNORE, scores.argmax(dim=0))
        doubtful = (first - second < 1e-5 * first) | ((first - settings.prob_thd).abs() < 1e-5)
        return cls(scores, found, first, doubtful)

    def check(self, result: PixelLabels, background: bool) -> None:
        decided = ~self.doubtful.numpy()
        assert decided.mean() > 0.995
        np.testing.assert_array_equal(result.labels[decided], self.labels.numpy()[decided])
        if result.winning is not None:
            np.testing.assert_allclose(result.winning.plane, self.best, rtol=1e-5, atol=1e-6)
            greatest = float(self.scores[int(background) :].max())
            assert result.winning.greatest_foreground == pytest.approx(greatest, rel=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("background", [0, 5])
@pytest.mark.parametrize("texts", [9, 21, 171, 1203])
@pytest.mark.parametrize(
    "changes",
    [{}, {"prob_thd": 0.02}, {"area_thd": 0.004}, {"prob_thd": 0.01, "area_thd": 0.004}],
    ids=lambda changes: "-".join(changes) or "best",
)
def test_labels_equal_the_formula(texts: int, background: int, changes: dict[str, float]) -> None:
    maps, names = photo_maps(texts, (100, 150)), names_of(texts, background)
    settings = SlidingSettings(logit_scale=SCALE, **changes)
    plain = Plain.of(maps, names, settings, bool(background))
    for keep_winning in (False, True):
        result = label_pixels(
            maps,
            names,
            settings,
            background=bool(background),
            ignore_index=IGNORE,
            keep_winning=keep_winning,
        )
        plain.check(result, bool(background))


@torch.inference_mode()
@pytest.mark.parametrize("texts", [21, 171])
@pytest.mark.parametrize("columns", [14, 30, 1000], ids=["left", "most", "all"])
def test_the_greatest_foreground_is_found_where_a_background_text_wins(texts: int, columns: int) -> None:
    maps, names = photo_maps(texts, (100, 300)), names_of(texts, 5)
    maps.cosines[2, :, :columns] += 0.2
    settings = SlidingSettings(logit_scale=SCALE)
    result = label_pixels(maps, names, settings, background=True, ignore_index=IGNORE, keep_winning=True)
    assert (result.labels == 0).mean() > 0.2
    Plain.of(maps, names, settings, background=True).check(result, background=True)


@torch.inference_mode()
def test_labels_of_a_photo_equal_those_of_all_scores() -> None:
    maps, names, settings = photo_maps(171, (375, 500)), names_of(171, 5), SlidingSettings(logit_scale=SCALE)
    options = {"background": True, "ignore_index": IGNORE}
    every = label_pixels(maps, names, settings, keep_scores=True, **options)
    assert every.scores is not None
    best = label_pixels(maps, names, settings, **options)
    sure = label_pixels(maps, names, settings, keep_winning=True, **options)
    first, second = np.partition(every.scores, -2, axis=0)[[-1, -2]]
    decided = first - second > 1e-6
    assert decided.mean() > 0.999
    np.testing.assert_array_equal(best.labels[decided], every.labels[decided])
    np.testing.assert_array_equal(sure.labels, best.labels)
    assert sure.winning is not None
    np.testing.assert_allclose(sure.winning.plane, first, rtol=0, atol=2e-6)


@torch.inference_mode()
@pytest.mark.parametrize("group", [1000, 40, 7])
@pytest.mark.parametrize("changes", [{}, {"prob_thd": 0.03, "area_thd": 0.02}], ids=["best", "thresholds"])
def test_groups_of_texts_after_pamr_equal_the_formula(
    group: int, changes: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps, names = photo_maps(90, (70, 100)), names_of(90, 12)
    settings = SlidingSettings(logit_scale=SCALE, pamr_steps=3, pamr_dilations=(2, 5), **changes)
    monkeypatch.setattr(labels, "_WHOLE", 0)
    monkeypatch.setattr(labels, "_REFINED", group * held_numbers(100, 3, (2, 5)))
    plain = Plain.of(maps, names, settings, background=True)
    result = label_pixels(maps, names, settings, background=True, ignore_index=IGNORE, keep_winning=True)
    plain.check(result, background=True)


@torch.inference_mode()
def test_the_first_of_equal_texts_wins() -> None:
    maps = photo_maps(100, (90, 120))
    maps = replace(maps, cosines=maps.cosines.repeat(2, 1, 1))
    names = names_of(200, 1)
    options = {"background": False, "ignore_index": IGNORE}
    result = label_pixels(maps, names, SlidingSettings(logit_scale=SCALE), **options)
    assert result.labels.max() <= names.owners[99]


@torch.inference_mode()
def test_pixels_without_a_score_have_the_first_label() -> None:
    maps, names = photo_maps(90, (60, 80)), names_of(90, 2)
    hidden = torch.zeros(60, 80, dtype=torch.bool)
    hidden[10:20, 30:50] = True
    settings = SlidingSettings(logit_scale=SCALE)
    shown = label_pixels(maps, names, settings, background=False, ignore_index=IGNORE).labels
    found = label_pixels(
        replace(maps, hidden=hidden), names, settings, background=False, ignore_index=IGNORE
    ).labels
    assert (found[hidden] == 0).all()
    np.testing.assert_array_equal(found[~hidden], shown[~hidden])


@torch.inference_mode()
@pytest.mark.parametrize("keep_winning", [False, True])
def test_an_image_whose_classes_are_all_small_has_the_first_label(keep_winning: bool) -> None:
    maps, names = photo_maps(30, (60, 80)), names_of(30, 0)
    settings = SlidingSettings(logit_scale=SCALE, area_thd=1.0)
    result = label_pixels(
        maps, names, settings, background=False, ignore_index=IGNORE, keep_winning=keep_winning
    )
    assert (result.labels == 0).all()
    if result.winning is not None:
        assert (result.winning.plane == 0).all()


@torch.inference_mode()
@pytest.mark.parametrize(("texts", "size"), [(1203, (375, 500)), (21, (200, 9000)), (5000, (9, 9000))])
def test_memory_and_work_do_not_grow_with_pixels_times_texts(
    texts: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stitched = []
    make = best_texts._stitcher

    def counting(*given: Tensor) -> object:
        scores = make(*given)

        def counted(texts: Tensor) -> Tensor:
            found = scores(texts)
            stitched.append(found.numel())
            return found

        return counted

    monkeypatch.setattr(best_texts, "_stitcher", counting)
    maps, names = photo_maps(texts, size, noise=0.004), names_of(texts, 1)
    settings = SlidingSettings(logit_scale=SCALE)
    label_pixels(maps, names, settings, background=True, ignore_index=IGNORE)
    assert max(stitched) <= best_texts._CACHED
    if texts == 1203:
        assert sum(stitched) < 0.4 * texts * size[0] * size[1], "texts that cannot win are left out"

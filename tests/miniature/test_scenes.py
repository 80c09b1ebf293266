import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.miniature.evaluation_scenes import SIZES, is_held_out_style, single_object, unseen_scene
from tagmask.miniature.objects import CLASSES
from tagmask.miniature.scenes import (
    BACKGROUND_NAMES,
    CLASS_NAMES,
    COLOURS,
    Plan,
    SceneObject,
    draw_scene,
    is_held_out_colour,
    plan_scene,
    training_colours,
)


def thing(kind: int, centre: tuple[float, float] = (0.5, 0.5), radius: float = 0.3) -> SceneObject:
    return SceneObject(
        kind, colour=0, style=0, centre=centre, radius=radius, turns=0.0, flip=False, squeeze=1.0
    )


def test_numbers_of_classes_and_styles() -> None:
    assert len(CLASS_NAMES) >= 24
    assert len(BACKGROUND_NAMES) >= 8
    assert len(set(CLASS_NAMES) | set(BACKGROUND_NAMES)) == len(CLASS_NAMES) + len(BACKGROUND_NAMES)
    assert all(len(kind.styles) >= 4 for kind in CLASSES)


def test_equal_seeds_give_equal_scenes() -> None:
    first, again, other = unseen_scene(3), unseen_scene(3), unseen_scene(7)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.plan == again.plan != other.plan


def test_splits_share_no_scene() -> None:
    assert plan_scene(5, split="train") != plan_scene(5, split="test")
    with pytest.raises(InputError, match="Unknown split 'val'"):
        plan_scene(5, split="val")


def test_training_excludes_held_out_colours_and_styles() -> None:
    things = [t for seed in range(400) for t in plan_scene(seed, split="train").things]
    assert not any(is_held_out_colour(t.kind, t.colour) or is_held_out_style(t) for t in things)
    assert {t.kind for t in things} == set(range(len(CLASS_NAMES)))
    assert {(t.kind, t.colour) for t in things} <= {(k, c) for k in range(24) for c in training_colours(k)}
    unseen = [t for seed in range(400) for t in plan_scene(seed, split="test").things]
    assert any(is_held_out_colour(t.kind, t.colour) for t in unseen)
    assert any(is_held_out_style(t) for t in unseen)


@pytest.mark.parametrize("kind", range(24))
def test_two_colours_of_every_class_are_held_out(kind: int) -> None:
    assert len(training_colours(kind)) == len(COLOURS) - 2


def test_counts_and_sizes_are_in_range() -> None:
    for seed in range(100):
        plan = plan_scene(seed, count=(2, 4), radius=(0.2, 0.3))
        assert len(plan.things) <= 4
        assert all(0.2 * 0.85 <= t.radius <= 0.3 for t in plan.things)
    assert not plan_scene(1, count=(0, 0)).things
    assert (
        np.mean([len(plan_scene(s, count=(3, 3), radius=(0.13, 0.2)).things) == 3 for s in range(50)]) > 0.9
    )


@pytest.mark.parametrize("size", [(240, 320), (61, 33), (16, 200)])
def test_mask_matches_the_image(size: tuple[int, int]) -> None:
    # The same plan with and without an object: pixels change only inside the mask, apart from one pixel of
    # antialiased border.
    red = Plan(grounds=(0,), horizon=0.5, things=(thing(6),), seed=(0, 1))
    bare = Plan(grounds=(0,), horizon=0.5, things=(), seed=(0, 1))
    with_thing, without = draw_scene(red, size), draw_scene(bare, size)
    changed = (with_thing.image != without.image).any(axis=2)
    inside = with_thing.labels == 6
    assert inside.any()
    grown = inside.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            grown |= np.roll(inside, step, axis)
    assert not changed[~grown & ~_corners(inside)].any()
    assert changed[inside].mean() > 0.95


def _corners(inside: np.ndarray) -> np.ndarray:
    return (
        np.roll(inside, (1, 1), (0, 1))
        | np.roll(inside, (-1, 1), (0, 1))
        | np.roll(inside, (1, -1), (0, 1))
        | np.roll(inside, (-1, -1), (0, 1))
    )


def test_two_backgrounds_meet_at_the_horizon() -> None:
    plan = Plan(grounds=(6, 0), horizon=0.5, things=(), seed=(0, 9))
    labels = draw_scene(plan, (100, 80)).labels
    assert (labels[:35] == len(CLASS_NAMES) + 6).all()
    assert (labels[65:] == len(CLASS_NAMES) + 0).all()


def test_visible_fraction_of_hidden_and_cut_objects() -> None:
    plan = Plan((0,), 0.5, (thing(18), thing(10, radius=0.9), thing(2, centre=(2.0, 2.0))), (0, 4))
    scene = draw_scene(plan, (120, 120))
    hidden, cut, outside = scene.visible
    assert hidden < 0.2 < cut < 1.0
    assert outside == 0.0
    assert [visible.kind for visible in scene.content.things] == [10]


def test_sizes_of_test_scenes_and_single_objects() -> None:
    assert [unseen_scene(seed).labels.shape for seed in range(4)] == list(SIZES)
    scene = single_object(0)
    assert scene.image.shape == (224, 224, 3)
    assert len(scene.plan.things) == 1

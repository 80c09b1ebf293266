"""Training of the learned projection: loss, logits, training, reproducibility."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.dense.prompts import Names, split_names
from tagmask.errors import InputError, ShapeError
from tagmask.papers import sclip_projection
from tagmask.papers.sclip_projection import IGNORE_INDEX, LabelledImage, ProjectionSettings, train_projection
from tagmask.variants.learned import Projection, fingerprint, query_projection

NAMES = split_names(["cat", "dog, puppy", "boat"])
SMALL = ProjectionSettings(steps=3, batch=2, short_side=48, crop=32)


@pytest.fixture(scope="module")
def texts(sclip_model: Clip) -> torch.Tensor:
    features = torch.randn(4, sclip_model.geometry.embed, generator=torch.Generator().manual_seed(1))
    return F.normalize(features, dim=-1)


def samples(count: int = 3, classes: int = 3) -> list[LabelledImage]:
    """Noise over two plain halves of different brightness, so that classes can be told per_name."""
    pairs: list[LabelledImage] = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        labels = np.full((60, 70), rng.integers(classes), np.uint8)
        labels[:, 35:] = rng.integers(classes)
        image = rng.integers(0, 60, (60, 70, 3)) + 90 * labels[..., None]
        pairs.append((image.astype(np.uint8), labels))
    return pairs


def trained(
    clip: Clip, texts: torch.Tensor, settings: ProjectionSettings, pairs: list[LabelledImage]
) -> Projection:
    return train_projection(clip, pairs, NAMES, texts, settings)


def test_loss_is_the_mean_over_pixels_with_a_class() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 5))
    labels = rng.integers(0, 3, (2, 4, 5))
    labels[0, 1, 2] = labels[1, 3, 4] = IGNORE_INDEX
    total, count = 0.0, 0
    for b, y, x in np.ndindex(labels.shape):
        if labels[b, y, x] != IGNORE_INDEX:
            powers = np.exp(logits[b, :, y, x])
            total -= np.log(powers[labels[b, y, x]] / powers.sum())
            count += 1
    actual = sclip_projection.pixel_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    assert float(actual) == pytest.approx(total / count, abs=1e-9)
    unlabelled = torch.full((1, 4, 5), IGNORE_INDEX)
    assert float(sclip_projection.pixel_loss(torch.zeros(1, 3, 4, 5), unlabelled)) == 0


def test_class_takes_its_best_name(sclip_model: Clip, texts: torch.Tensor) -> None:
    pixels = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    start = query_projection(sclip_model.vision)
    each = Names(("a", "b", "c", "d"), ("a", "b", "c", "d"), (0, 1, 2, 3))
    with torch.no_grad():
        actual, per_name = (
            sclip_projection.class_logits(sclip_model, pixels, names, texts, start.matrix, start.bias)
            for names in (NAMES, each)
        )
    assert actual.shape == (1, 3, 32, 48)
    assert torch.equal(actual[:, 1], torch.maximum(per_name[:, 1], per_name[:, 2]))
    assert torch.equal(actual[:, [0, 2]], per_name[:, [0, 3]])


def test_training_lowers_the_loss_and_leaves_the_tower_unchanged(
    sclip_model: Clip, texts: torch.Tensor
) -> None:
    before = {name: tensor.clone() for name, tensor in sclip_model.vision.state_dict().items()}
    losses: list[float] = []
    # One image as large as the window: only the projection changes the loss.
    settings = ProjectionSettings(steps=30, batch=2, short_side=32, crop=32, images=1, learning_rate=1e-2)
    image, labels = samples(1)[0]
    pair = [(image[:, :60], labels[:, :60])]
    actual = train_projection(
        sclip_model, pair, NAMES, texts, settings, lambda step, loss: losses.append(loss)
    )
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1e-3
    assert actual.weights == fingerprint(sclip_model.vision)
    assert not torch.equal(actual.matrix, query_projection(sclip_model.vision).matrix)
    assert not actual.matrix.requires_grad
    for name, tensor in sclip_model.vision.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in sclip_model.vision.parameters())


def test_seed_determines_the_projection(sclip_model: Clip, texts: torch.Tensor) -> None:
    first, repeated = (trained(sclip_model, texts, SMALL, samples()) for _ in range(2))
    assert torch.equal(first.matrix, repeated.matrix)
    other = trained(sclip_model, texts, ProjectionSettings(**{**vars(SMALL), "seed": 1}), samples())
    assert not torch.equal(first.matrix, other.matrix)


def test_training_without_bias(sclip_model: Clip, texts: torch.Tensor) -> None:
    settings = ProjectionSettings(**{**vars(SMALL), "bias": False})
    assert trained(sclip_model, texts, settings, samples()).bias is None


def test_samples_are_drawn_uniformly_from_an_iterator(sclip_model: Clip) -> None:
    marked = [(np.full((1, 1, 3), i, np.uint8), np.zeros((1, 1), np.uint8)) for i in range(10)]
    counts = np.zeros(10)
    for seed in range(400):
        drawn = sclip_projection._sample(
            iter(marked), ProjectionSettings(images=4), np.random.default_rng(seed)
        )
        chosen = {int(image[0, 0, 0]) for image, _ in drawn}
        assert len(chosen) == 4
        counts[list(chosen)] += 1
    assert np.abs(counts / 400 - 0.4).max() < 0.1


def test_windows_keep_pixels_and_labels_aligned() -> None:
    labels = torch.arange(12 * 9).reshape(12, 9)
    pixels = labels.float().expand(3, -1, -1)
    rng = np.random.default_rng(0)
    flips = set()
    for _ in range(20):
        window, truth = sclip_projection._window((pixels, labels), 8, rng)
        assert window.shape == (3, 8, 8)
        assert torch.equal(window[0].long(), truth)
        flips.add(bool(truth[0, 0] > truth[0, 1]))
    assert flips == {True, False}
    window, truth = sclip_projection._window((pixels, labels), 10, rng)
    assert (truth[:, 9] == IGNORE_INDEX).all()
    assert (window[:, :, 9] == 0).all()
    assert (truth[:, :9] != IGNORE_INDEX).all()


def test_invalid_samples_and_settings_are_refused(sclip_model: Clip, texts: torch.Tensor) -> None:
    image, labels = samples(1)[0]
    with pytest.raises(InputError, match="No images to train on"):
        trained(sclip_model, texts, SMALL, [])
    with pytest.raises(ShapeError, match=r"shape \(59, 70\) do not fit an image of \(60, 70\) \(h, w\)"):
        trained(sclip_model, texts, SMALL, [(image, labels[1:])])
    with pytest.raises(InputError, match=r"Labels contain \[3\]. With 3 classes give 0 to 2, or 255"):
        trained(sclip_model, texts, SMALL, [(image, np.where(labels == labels[0, 0], 3, labels))])
    with pytest.raises(InputError, match="crop is 8 pixels"):
        trained(sclip_model, texts, ProjectionSettings(crop=8), samples())
    with pytest.raises(InputError, match="steps is 0"):
        ProjectionSettings(steps=0)

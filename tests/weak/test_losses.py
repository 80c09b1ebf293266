import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.errors import InputError, ShapeError
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.weak import losses
from tagmask.weak.config import LossSettings
from tagmask.weak.labels import IGNORE_INDEX, resized_nearest
from tagmask.weak.model import WeakClipOutput
from tests.weak.models import small_model

K = 4


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(2)
    logits = torch.randn(2, K, 6, 8, generator=random)
    scores = torch.rand(2, K, 3, 4, generator=random) * 2 - 1
    labels = torch.randint(0, K, (2, 24, 32), generator=random)
    labels[:, :5] = IGNORE_INDEX
    labels[1][labels[1] == 0] = 2  # an image without background
    images = torch.randint(0, 256, (2, 3, 24, 32), generator=random, dtype=torch.uint8)
    return WeakClipOutput(logits, scores), labels.to(torch.uint8), images


def naive_p(logits):
    p = np.zeros(logits.shape)
    b, _, h, w = logits.shape
    for n in range(b):
        for y in range(h):
            for x in range(w):
                e = np.exp(logits[n, :, y, x] - logits[n, :, y, x].max())
                soft = e / e.sum() + 1e-7
                p[n, :, y, x] = soft / soft.sum()
    return p


def test_the_seed_loss_matches_naive_loops(batch):
    output, labels, _ = batch
    labels = labels[:, ::4, ::4]
    p = naive_p(output.logits.double().numpy())
    wanted = 0.0
    for n in range(2):
        sums, counts = [0.0, 0.0], [0, 0]
        for y in range(6):
            for x in range(8):
                label = int(labels[n, y, x])
                if label != IGNORE_INDEX:
                    side = int(label > 0)
                    sums[side] += math.log(p[n, label, y, x])
                    counts[side] += 1
        wanted -= sum(total / max(count, 1e-4) for total, count in zip(sums, counts, strict=True)) / 2
    found = losses.balanced_seed_loss(losses.probabilities(output.logits), labels)
    assert float(found) == pytest.approx(wanted, abs=1e-6)
    assert not (labels[1] == 0).any()


def test_the_divergence_matches_naive_loops_and_clamped_ratios_have_no_gradient(batch):
    logits = (6 * batch[0].logits).requires_grad_()
    q = torch.rand(2, K, 6, 8).softmax(1)
    p = losses.probabilities(logits)
    known = p.detach()
    wanted = 0.0
    for n, y, x in np.ndindex(2, 6, 8):
        for k in range(K):
            ratio = min(max(float(q[n, k, y, x]) / float(known[n, k, y, x]), 0.05), 20)
            wanted += float(q[n, k, y, x]) * math.log(ratio) / (2 * 6 * 8)
    found = losses.crf_divergence(p, q)
    assert float(found.detach()) == pytest.approx(wanted, abs=1e-6)
    (gradient,) = torch.autograd.grad(found, p)
    p = known
    cut = (q / p > 20) | (q / p < 0.05)
    assert cut.any()
    assert not gradient[cut].any()
    torch.testing.assert_close(gradient[~cut], (-q / p / 96)[~cut])


def test_the_contrast_divides_by_ignored_pixels_too(batch):
    output, labels, _ = batch
    logits = F.interpolate(output.scores / 0.07, size=(24, 32), mode="bilinear", align_corners=False)
    wanted = 0.0
    for n, y, x in np.ndindex(2, 24, 32):
        label = int(labels[n, y, x])
        if label != IGNORE_INDEX:
            wanted -= float(logits[n, :, y, x].log_softmax(0)[label]) / (2 * 24 * 32)
    assert float(losses.contrast_loss(output.scores, labels)) == pytest.approx(wanted, abs=1e-5)


def test_labels_are_resized_as_torch_does_it(batch):
    labels = batch[1]
    for size in ((7, 9), (6, 8), (24, 32), (48, 80)):
        wanted = F.interpolate(labels[:, None].float(), size=size, mode="nearest")[:, 0].to(torch.uint8)
        assert torch.equal(resized_nearest(labels, size), wanted)


def test_images_are_resized_with_aligned_corners_and_truncated():
    image = torch.tensor([[0, 10, 20, 31]], dtype=torch.uint8).expand(1, 3, 4, 4)
    found = losses.crf_images(image, (2, 3))
    assert found[0, 0].tolist() == [[0, 15, 31]] * 2
    same = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(losses.crf_images(same, (16, 16)), same)


def test_the_total_is_the_weighted_sum_of_its_terms(batch):
    output, labels, images = batch
    settings = LossSettings(seed=2.0, crf=0.5, contrast=0.25, size=16)
    found = losses.total(output, labels, images, settings)
    assert list(found) == ["seed", "crf", "contrast", "total"]
    p = losses.probabilities(F.interpolate(output.logits, size=(16, 16), mode="bilinear"))
    assert found["seed"] == losses.balanced_seed_loss(p, resized_nearest(labels, (16, 16)))
    q = losses.crf_targets(p, losses.crf_images(images, (16, 16)), CRF_SETTINGS["weakclip/loss"], "exact")
    assert q.min() > 0.9e-4
    assert found["contrast"] == losses.contrast_loss(output.scores, labels)
    wanted = 2 * found["seed"] + 0.5 * found["crf"] + 0.25 * found["contrast"]
    assert float(found["total"]) == pytest.approx(float(wanted))
    last = losses.total(output, labels, images.permute(0, 2, 3, 1).contiguous(), settings)
    assert torch.equal(last["total"], found["total"])


def test_the_lattice_kernel_is_close_to_the_exact_one():
    planes = torch.randn(2, K, 4, 4, generator=torch.Generator().manual_seed(0))
    logits = F.interpolate(planes, size=(16, 16), mode="bilinear")
    images = (60 * logits[:, :3]).clamp(0, 255).to(torch.uint8)
    labels = torch.zeros(2, 16, 16, dtype=torch.uint8)
    output = WeakClipOutput(logits, planes)
    exact, lattice = (
        losses.total(output, labels, images, LossSettings(size=16, kernel=kernel))["crf"]
        for kernel in ("exact", "lattice")
    )
    assert exact != lattice
    assert float(lattice) == pytest.approx(float(exact), rel=0.2)


@pytest.mark.parametrize("left_out", ["seed", "crf", "contrast"])
def test_each_term_can_be_disabled(batch, left_out):
    found = losses.total(*batch, LossSettings(**{left_out: 0.0}, size=16))
    assert set(found) == {"seed", "crf", "contrast", "total"} - {left_out}


def test_losses_of_an_image_without_labels_are_finite(batch):
    output, labels, images = batch
    found = losses.total(output, torch.full_like(labels, IGNORE_INDEX), images, LossSettings(size=16))
    assert float(found["seed"]) == 0
    assert float(found["contrast"]) == 0
    assert found["total"].isfinite()


def test_gradients_reach_logits_and_scores(batch):
    output, labels, images = batch
    moved = WeakClipOutput(output.logits.requires_grad_(), output.scores.requires_grad_())
    losses.total(moved, labels, images, LossSettings(size=16))["total"].backward()
    assert output.logits.grad.abs().sum() > 0
    assert output.scores.grad.abs().sum() > 0


def test_labels_out_of_range_are_refused(batch):
    output, labels, images = batch
    labels[0, 10, 10] = K
    with pytest.raises(InputError, match=f"A label is {K}. Expected classes 0 to {K - 1}"):
        losses.total(output, labels, images)


def test_mismatched_sizes_are_refused(batch):
    output, labels, images = batch
    with pytest.raises(ShapeError, match="all of one size"):
        losses.total(output, labels, images[..., :-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1.0}, "seed"),
        ({"size": 0}, "size"),
        ({"size": 129}, "size"),
        ({"field": "x"}, "field"),
        ({"kernel": "x"}, "kernel"),
        ({"tau": 0.0}, "tau"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LossSettings(**settings)


def test_disabling_all_terms_is_refused():
    with pytest.raises(InputError, match="all 0"):
        LossSettings(0.0, 0.0, 0.0)


@pytest.mark.parametrize("as_", ["published", "corrected"])
def test_some_steps_on_one_batch_lower_the_loss(sclip_model, as_):
    model = small_model(sclip_model, as_=as_).train()
    optimiser = torch.optim.AdamW(model.parameter_groups("paper")[0].parameters, lr=2e-3)
    labels = torch.zeros(2, 64, 64, dtype=torch.uint8)
    labels[0, 16:48, 16:48], labels[1, :, 32:] = 1, 2
    images = (80 * labels)[:, None].expand(-1, 3, -1, -1).contiguous()
    pixels = model.normalise(images.permute(0, 2, 3, 1))
    settings = LossSettings(size=16)
    torch.manual_seed(0)
    history = []
    for _ in range(12):
        terms = losses.total(model(pixels), labels, images, settings)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})
    assert history[-1]["seed"] < 0.7 * history[0]["seed"]
    assert history[-1]["contrast"] < history[0]["contrast"]
    assert history[-1]["total"] < 0.8 * history[0]["total"]

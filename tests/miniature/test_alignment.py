"""The losses, compared with naive implementations of their definitions."""

import math

import pytest
import torch
from torch import Tensor

from tagmask.miniature.captions import Phrase
from tagmask.miniature.training.alignment import (
    assignment_loss,
    caption_loss,
    entailed,
    phrase_loss,
    pooled_scores,
    sinkhorn_assignment,
)

SCALE = torch.tensor(7.0)


def test_captions_entail_and_rule_out_phrases() -> None:
    phrases = [Phrase(0), Phrase(0, 1), Phrase(0, 2), Phrase(5), Phrase(5, 1)]
    mentions = [[Phrase(0, 1)], [Phrase(0)], [Phrase(5, 1), Phrase(0, 2)], [Phrase(9)]]
    is_entailed, ruled_out = entailed(mentions, phrases)
    e, r, o = "entailed", "ruled out", "open"
    expected = [[e, e, r, r, r], [e, o, o, r, r], [e, r, e, e, e], [r, r, r, r, r]]
    result = [
        [e if is_entailed[i, j] else r if ruled_out[i, j] else o for j in range(len(phrases))]
        for i in range(len(mentions))
    ]
    assert result == expected


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(4, 6, 5, generator=generator) * 2 - 1
    kind = torch.randint(0, 3, (4, 5), generator=generator)
    kind[torch.arange(4), torch.arange(4)] = 0  # each entails something
    return scores, kind == 0, kind == 1


@pytest.mark.parametrize("seed", range(5))
def test_phrase_loss_equals_its_definition(seed: int) -> None:
    scores, is_entailed, ruled_out = random_case(seed)
    cosines = scores[:, 0]
    terms: dict[bool, list[float]] = {True: [], False: []}
    for by_region in (True, False):
        for r in range(4):
            for t in range(5):
                if not is_entailed[r, t]:
                    continue
                positive = math.exp(7 * cosines[r, t])
                others = [(r, u) for u in range(5)] if by_region else [(u, t) for u in range(4)]
                rest = sum(math.exp(7 * cosines[i, j]) for i, j in others if ruled_out[i, j])
                terms[by_region].append(-math.log(positive / (positive + rest)))
    expected = sum(sum(each) / len(each) for each in terms.values()) / 2
    assert float(phrase_loss(cosines, SCALE, is_entailed, ruled_out)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_assignment_loss_equals_its_definition(seed: int) -> None:
    scores, is_entailed, ruled_out = random_case(seed)
    is_background = torch.tensor([False, False, True, True, False])
    shares = torch.zeros(4, 5)
    for r in range(4):
        for kind, part in ((is_background, 0.6), (~is_background, 0.4)):
            for t in range(5):
                if is_entailed[r, t] and kind[t]:
                    shares[r, t] = part / int((is_entailed[r] & kind).sum())
    assignment = sinkhorn_assignment((scores * 7).masked_fill(~is_entailed[:, None], -math.inf), shares)
    terms = []
    for r in range(4):
        for p in range(6):
            assigned = int(assignment[r, p])
            assert is_entailed[r, assigned]
            total = sum(
                math.exp(7 * scores[r, p, t]) for t in range(5) if is_entailed[r, t] or ruled_out[r, t]
            )
            terms.append(-math.log(math.exp(7 * scores[r, p, assigned]) / total))
    expected = sum(terms) / len(terms)
    assert float(assignment_loss(scores, SCALE, is_entailed, ruled_out, is_background)) == pytest.approx(
        expected, rel=1e-5
    )


def test_high_scoring_word_does_not_get_every_patch() -> None:
    # The second word scores higher everywhere; two patches score higher for the first than the others do.
    logits = torch.tensor([[[1.0, 9.0], [5.0, 9.0], [1.0, 9.0], [4.0, 9.0]]])
    assert sinkhorn_assignment(logits, torch.tensor([[0.5, 0.5]])).tolist() == [[1, 0, 1, 0]]


def test_words_get_about_their_shares() -> None:
    logits = 4 * torch.randn(50, 36, 3, generator=torch.Generator().manual_seed(0))
    logits[..., 2] += 10
    shares = torch.tensor([[0.2, 0.3, 0.5]]).expand(50, -1)
    assigned = sinkhorn_assignment(logits, shares)
    counts = torch.stack([(assigned == t).sum(dim=1) for t in range(3)]).float()
    assert counts.mean(dim=1).tolist() == pytest.approx([7.2, 10.8, 18], abs=2)
    logits[:, :, 1] = -math.inf
    assert not (sinkhorn_assignment(logits, torch.tensor([[0.5, 0.0, 0.5]]).expand(50, -1)) == 1).any()


def test_pooling_weights_high_scoring_patches() -> None:
    scores = torch.tensor([[[0.9], [-0.5], [-0.5], [-0.5]]])
    assert float(pooled_scores(scores, sharpness=0.0)) == pytest.approx(-0.15)
    assert float(pooled_scores(scores, sharpness=40.0)) == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_caption_loss_accepts_equal_captions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.rand(2, 4, 3, generator=generator)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    total = 0.0
    for rows, columns in ((images, texts), (texts, images)):
        for i in range(4):
            logits = [7 * float(rows[i] @ columns[j]) for j in range(4)]
            log_sum = math.log(sum(math.exp(v) for v in logits))
            matches = [j for j in range(4) if same[i, j]]
            total += sum(log_sum - logits[j] for j in matches) / len(matches) / 4 / 2
    assert float(caption_loss(images, texts, SCALE, same)) == pytest.approx(total, rel=1e-5)

import numpy as np
import torch
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.dense.features import class_token, class_token_features, extract_features
from tagmask.dense.positions import bilinear_half


@torch.inference_mode()
def test_class_token_equals_the_whole_tower(tagclip_model: Clip) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32))
    tower = extract_features(tagclip_model.vision, pixels, bilinear_half)
    whole = F.normalize(class_token_features(tagclip_model.vision, pixels), dim=-1)
    torch.testing.assert_close(class_token(tower), whole, rtol=0, atol=2e-6)


@torch.inference_mode()
def test_class_token_does_not_change_the_features(tagclip_model: Clip) -> None:
    pixels = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 64, 96)).astype(np.float32))
    tower = extract_features(tagclip_model.vision, pixels, bilinear_half)
    before = tower.project_last_block(None)
    first = class_token(tower)
    torch.testing.assert_close(class_token(tower), first, rtol=0, atol=0)
    torch.testing.assert_close(tower.project_last_block(None), before, rtol=0, atol=0)

"""The contract of everything that refines score maps."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from tagmask.refine.affinity import balanced
from tagmask.refine.crf import CrfSettings, dense_crf, dense_crf_batch
from tagmask.refine.crf_small import small_crf
from tagmask.refine.pamr import pamr

SIZE = (17, 26)
MILD = CrfSettings(near=1.5, near_weight=2.0, far=4.0, colour=40.0, colour_weight=3.0, rounds=3)


def _pamr(maps: Tensor, image: np.ndarray) -> Tensor:
    return pamr(maps, torch.from_numpy(image).permute(2, 0, 1).to(maps.dtype), steps=3, dilations=(1, 3))


def _small(maps: Tensor, image: np.ndarray) -> Tensor:
    return small_crf(maps[None], torch.from_numpy(image).permute(2, 0, 1)[None], MILD)[0]


def _batch(maps: Tensor, image: np.ndarray) -> Tensor:
    return dense_crf_batch(torch.stack([maps, maps]), np.stack([image, image]), MILD)[1]


def _affinity(maps: Tensor, image: np.ndarray) -> Tensor:
    """Spread scores along an affinity of the pixels' colours and positions."""
    h, w = image.shape[:2]
    y, x = np.mgrid[:h, :w]
    features = np.concatenate(
        [image.reshape(-1, 3) / 40, np.stack([y, x], axis=-1).reshape(-1, 2) / 4], axis=1
    )
    distance = torch.cdist(
        *[torch.from_numpy(features).to(maps.dtype)] * 2, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return balanced(torch.exp(-distance)).spread(maps.flatten(1)).view_as(maps)


@dataclass(frozen=True)
class Contract:
    """A refiner, and properties of its results beyond those of all refiners."""

    refine: Callable[[Tensor, np.ndarray], Tensor]
    convex: bool = False
    """Each value is a weighted mean of values of the same plane."""
    probabilities: bool = False
    """Values are probabilities over the planes."""
    tolerance: float = 1e-5
    """For transposed images: the lattice is not isotropic."""
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    """Supported dtypes, which are kept."""


REFINERS = {
    "pamr": Contract(_pamr, convex=True),
    "crf": Contract(lambda maps, image: dense_crf(maps, image, MILD), probabilities=True, tolerance=0.15),
    "crf-batch": Contract(_batch, probabilities=True, tolerance=0.15),
    "crf-small": Contract(_small, probabilities=True, dtypes=(torch.float32,)),
    "affinity": Contract(_affinity),
}


def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> tuple[Tensor, np.ndarray]:
    """Three planes that sum to 1, and an image of blocks that are wider than high."""
    random = np.random.default_rng(seed)
    blocks = (
        random.integers(0, 256, (size[0] // 3 + 1, size[1] // 7 + 1, 3)).repeat(3, axis=0).repeat(7, axis=1)
    )
    maps = random.random((3, *size)) ** 3 + 0.05
    return torch.tensor(maps / maps.sum(0), dtype=torch.float32), blocks[: size[0], : size[1]].astype(
        np.uint8
    )


@pytest.mark.parametrize("name", REFINERS)
class TestRefiner:
    def test_shape_and_dtype_are_kept(self, name: str) -> None:
        contract, (maps, image) = REFINERS[name], scene()
        for dtype in contract.dtypes:
            refined = contract.refine(maps.to(dtype), image)
            assert (refined.shape, refined.dtype) == (maps.shape, dtype)
            assert torch.isfinite(refined).all()
            assert (refined - maps).abs().max() > 1e-2, "nothing was refined"

    def test_values_stay_in_range(self, name: str) -> None:
        contract, (maps, image) = REFINERS[name], scene()
        refined = contract.refine(maps, image)
        if contract.convex:
            assert (refined.amax(dim=(1, 2)) <= maps.amax(dim=(1, 2)) + 1e-6).all()
            assert (refined.amin(dim=(1, 2)) >= maps.amin(dim=(1, 2)) - 1e-6).all()
        assert refined.min() >= 0
        if contract.probabilities:
            torch.testing.assert_close(refined.sum(dim=0), torch.ones(SIZE), rtol=0, atol=1e-5)

    def test_inputs_are_unchanged(self, name: str) -> None:
        maps, image = scene()
        before = maps.clone(), image.copy()
        first = REFINERS[name].refine(maps, image)
        assert torch.equal(maps, before[0])
        np.testing.assert_array_equal(image, before[1])
        assert torch.equal(REFINERS[name].refine(maps, image), first)

    def test_constant_planes_stay_constant(self, name: str) -> None:
        contract, (_, image) = REFINERS[name], scene()
        flat = torch.full((2, *SIZE), 0.5)
        refined = contract.refine(flat, image)
        # An affinity is only nearly balanced, so a flat map stays only nearly flat.
        torch.testing.assert_close(refined, flat, rtol=0, atol=0.02 if name == "affinity" else 1e-5)

    def test_an_image_without_edges_only_smooths(self, name: str) -> None:
        contract, (maps, _) = REFINERS[name], scene()
        plain = np.full((*SIZE, 3), 90, np.uint8)
        refined = contract.refine(maps, plain)
        assert torch.isfinite(refined).all()
        if not contract.probabilities:
            assert refined.std() < maps.std() / 2

    def test_planes_can_be_permuted(self, name: str) -> None:
        contract, (maps, image) = REFINERS[name], scene()
        permuted = contract.refine(maps[[2, 0, 1]], image)
        torch.testing.assert_close(permuted, contract.refine(maps, image)[[2, 0, 1]], rtol=0, atol=1e-5)

    def test_the_transposed_image_has_the_transposed_result(self, name: str) -> None:
        contract, (maps, image) = REFINERS[name], scene()
        refined = contract.refine(maps, image)
        transposed = contract.refine(maps.mT.contiguous(), np.ascontiguousarray(image.transpose(1, 0, 2))).mT
        error = (transposed - refined).abs()
        assert error.mean() <= contract.tolerance / 10
        assert error.max() <= contract.tolerance

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
    def test_thin_images_have_finite_scores(self, name: str, size: tuple[int, int]) -> None:
        maps, image = scene(size=size)
        refined = REFINERS[name].refine(maps, image)
        assert refined.shape == maps.shape
        assert torch.isfinite(refined).all()

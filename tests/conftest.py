"""Fixtures for all tests: random checkpoints, loaded once, and a separate cache folder."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip, load
from tests.golden import make_images, make_weights, make_weights_sclip, make_weights_variants


@pytest.fixture(scope="session", autouse=True)
def _isolated_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may read or write a user's cache or pick up a user's weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAGMASK_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        patch.setenv("HF_HUB_OFFLINE", "1")  # nor download anything
        for name in ("TAGMASK_WEIGHTS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT"):
            patch.delenv(name, raising=False)
        torch.set_num_threads(1)  # the random models are too small for threads to pay off
        yield


@pytest.fixture(scope="session", autouse=True)
def _interrupts_reach_children() -> None:
    """A shell starts background jobs with SIGINT ignored, and programs that tests stop would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tagclip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 12-layer checkpoint, as a plain state dict."""
    path = tmp_path_factory.mktemp("weights") / "tagclip.pt"
    torch.save(make_weights.make_state_dict(), path)
    return path


@pytest.fixture(scope="session")
def sclip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 4-layer checkpoint, as a plain state dict with the scalars OpenAI's archives hold."""
    tensors = {name: torch.tensor(np.asarray(value)) for name, value in make_weights_sclip.make().items()}
    scalars = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    path = tmp_path_factory.mktemp("weights") / "sclip.pt"
    torch.save({**tensors, **{name: torch.tensor(value) for name, value in scalars.items()}}, path)
    return path


@pytest.fixture(scope="session")
def variants_model(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Another random 12-layer checkpoint."""
    tensors = {name: torch.tensor(np.asarray(value)) for name, value in make_weights_variants.make().items()}
    path = tmp_path_factory.mktemp("weights") / "variants.pt"
    torch.save(tensors, path)
    return load(path, device="cpu")


@pytest.fixture(scope="session")
def tagclip_model(tagclip_weights: Path) -> Clip:
    return load(tagclip_weights, device="cpu")


@pytest.fixture(scope="session")
def sclip_model(sclip_weights: Path) -> Clip:
    return load(sclip_weights, device="cpu")


@pytest.fixture(scope="session")
def shapes() -> list[np.ndarray]:
    """Three small images of coloured shapes, (h, w): 250x333, 320x200, 224x224."""
    return [make_images.make(seed, h, w, parts) for _, seed, h, w, parts in make_images.SPECS]

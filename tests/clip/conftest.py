"""Fixtures of the hub's tests."""

import json

import pytest
import torch
from safetensors.torch import save

from tests.clip.local_hub import SIZES, hub
from tests.oracles import clip_tree, hugging_face

__all__ = ["hub"]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test on any use of the network."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", forbidden)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    tree = clip_tree.ClipTree(vocab=49408, context=77, **SIZES)
    scalars = {"input_resolution", "context_length", "vocab_size"}
    return {k: t.detach().half() for k, t in tree.state_dict().items() if k not in scalars}


@pytest.fixture(scope="module")
def repositories(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, bytes]]:
    vision = {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    model = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    config = json.dumps(hugging_face.config(**SIZES, activation="gelu")).encode()
    theirs = hugging_face.tensors(tensors, layers=1, text_layers=1)
    names = sorted(theirs)
    index = {name: "one.safetensors" if name < "t" else "two.safetensors" for name in names}
    shards = {
        shard: save({name: theirs[name] for name in names if index[name] == shard})
        for shard in ("one.safetensors", "two.safetensors")
    }
    return {
        "repo/open": {
            "README.md": b"hello",
            "open_clip_config.json": json.dumps({"model_cfg": model}).encode(),
            "open_clip_model.safetensors": save(tensors),
            "open_clip_pytorch_model.bin": b"never requested",
        },
        "repo/hf": {"config.json": config, "model.safetensors": save(theirs), "flax_model.msgpack": b"no"},
        "repo/shards": {
            "config.json": config,
            "model.safetensors.index.json": json.dumps({"weight_map": index}).encode(),
            **shards,
        },
        "repo/siglip": {"config.json": b'{"model_type": "siglip"}', "model.safetensors": b"large"},
        "repo/nothing": {"README.md": b"hello"},
        "repo/flax": {"config.json": config, "flax_model.msgpack": b"no"},
    }

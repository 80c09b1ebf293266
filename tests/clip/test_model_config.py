"""Config files that are damaged or crafted; `test_folders` reads those of real folders."""

import json
import os
from pathlib import Path

import pytest

from tagmask.clip.hugging_face import shard_files
from tagmask.clip.load import load
from tagmask.clip.model_config import configured_sizes, read_json
from tagmask.errors import WeightsError


def nested(depth: int) -> str:
    return '{"a": ' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested(100_000), "is not valid JSON"),
        (nested(900), "is nested too deeply"),
        (nested(40), "is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "is not valid JSON"),
        ("[1]", "holds a list, not an object"),
        ('{"a"', "is not valid JSON"),
        (" " * (8 << 20) + "{}", "is too large for a config file"),
    ],
    ids=["very deep", "deep", "nested", "integer", "list", "cut", "large"],
)
def test_other_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match=message) as error:
        read_json(path)
    assert "config.json" in str(error.value)
    assert len(str(error.value).replace(str(path), "")) < 200


def test_nesting_of_real_files_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(nested(20))
    assert "a" in read_json(tmp_path / "config.json")


@pytest.mark.parametrize("size", [0, -1, 1.5, "14", 1 << 40, 10**4000, [16, 14], [16], [[1], [1]], {}])
def test_sizes_are_whole_numbers_of_a_plausible_size(size: object) -> None:
    with pytest.raises(WeightsError, match=r"config\.json gives patch_size = ") as error:
        configured_sizes({}, {"patch_size": size}, "config.json")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "name",
    [
        "x" * 5000,
        "é" * 200,
        "..",
        ".",
        "",
        "../a",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        "\ud800",
        3,
        None,
        ["a"],
    ],
)
def test_shards_have_plain_names(tmp_path: Path, name: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"t": "good.safetensors", "u": name}}))
    with pytest.raises(WeightsError, match="Expected names of files in its own folder") as error:
        shard_files(index)
    assert "index.json" in str(error.value)
    assert len(str(error.value).replace(str(tmp_path), "")) < 250
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="Expected names of files in its own folder"):
        load(tmp_path, device="cpu")


def test_the_number_of_shards_is_limited(tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"weight_map": {str(i): f"{i}.bin" for i in range(1001)}}))
    with pytest.raises(WeightsError, match="names 1001 files"):
        shard_files(index)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_shard_that_links_to_itself_or_to_a_pipe_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.bin"}}')
    (tmp_path / "one.bin").symlink_to(tmp_path / "one.bin")
    with pytest.raises(WeightsError, match="The weights are missing"):
        load(tmp_path, device="cpu")
    (tmp_path / "one.bin").unlink()
    os.mkfifo(tmp_path / "one.bin")
    with pytest.raises(WeightsError, match="The weights are missing"):
        load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": ["clip"] * 5000},
        {"model_type": "clip", "vision_config": {"hidden_act": ["gelu"] * 5000}},
        {"model_type": "clip", "vision_config": "x" * 5000},
        {"model_type": "clip", "vision_config": {"layer_norm_eps": "x" * 5000}},
        {"model_type": "clip", "text_config": {"eos_token_id": "x" * 5000}},
        {"model_type": "clip", "projection_dim": "x" * 5000},
    ],
)
def test_long_values_are_shortened_in_messages(tmp_path: Path, config: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(WeightsError, match=r"config\.json") as error:
        load(tmp_path, device="cpu")
    assert len(str(error.value).replace(str(tmp_path), "")) < 400

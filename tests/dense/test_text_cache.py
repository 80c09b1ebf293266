"""The cache of text features: entries from outside are never believed, and no file there can stop a run."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.dense.prompts import text_features
from tagmask.files import cache_dir, seal, unseal

TEMPLATES = ("a photo of a {}.", "the {}.")
EMBED = 64


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def encode(clip: Clip, *words: str) -> torch.Tensor:
    return text_features(clip, words, TEMPLATES)


def entries() -> list[Path]:
    return sorted((cache_dir() / "text").glob("*.npy"))


def entry_of(clip: Clip, word: str) -> tuple[Path, torch.Tensor]:
    before = set(entries())
    feature = encode(clip, word)
    (file,) = set(entries()) - before
    return file, feature


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def nan(file: Path) -> None:
    file.write_bytes(npy(np.full(EMBED, np.nan, np.float32)))


def negate(file: Path) -> None:
    file.write_bytes(npy(-np.load(file)))


def negate_in_place(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-32 - 4 * EMBED : -32] = (-np.frombuffer(data[-32 - 4 * EMBED : -32], np.float32)).tobytes()
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def other_bytes(file: Path) -> None:
    file.write_bytes(b"not numpy")


def other_shape(file: Path) -> None:
    file.write_bytes(npy(np.zeros(3, np.float32)))


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link(file: Path) -> None:
    copy = shutil.copy(file, file.parent / "elsewhere")
    file.unlink()
    file.symlink_to(copy)


def device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def large(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(2_000_000)


DAMAGE = (
    nan, negate, negate_in_place, truncate, empty, other_bytes, other_shape, fifo, link, device, large,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_encoded_again_with_one_warning(
    damage: object, sclip_model: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    file, feature = entry_of(sclip_model, "cat")
    content = file.read_bytes()
    assert callable(damage)
    damage(file)
    caplog.clear()
    assert torch.equal(encode(sclip_model, "cat"), feature)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("1 of the cached text features are damaged, as in ")
    assert str(file) in warning
    assert file.is_file()
    assert not file.is_symlink()
    assert file.read_bytes() == content
    caplog.clear()
    encode(sclip_model, "cat")
    assert not caplog.records


def test_an_entry_of_another_word_is_not_believed(
    sclip_model: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    cat, feature = entry_of(sclip_model, "cat")
    dog, other = entry_of(sclip_model, "dog")
    swapped = cat.read_bytes(), dog.read_bytes()
    dog.write_bytes(swapped[0])
    cat.write_bytes(swapped[1])
    again = encode(sclip_model, "cat", "dog")
    np.testing.assert_allclose(again.numpy(), torch.cat([feature, other]).numpy(), rtol=0, atol=1e-6)
    assert "2 of the cached text features are damaged" in caplog.text


def test_a_folder_in_place_of_an_entry_does_not_stop_the_run(sclip_model: Clip) -> None:
    file, feature = entry_of(sclip_model, "cat")
    file.unlink()
    file.mkdir()
    assert torch.equal(encode(sclip_model, "cat"), feature)


def test_texts_with_separators_have_entries_of_their_own(sclip_model: Clip) -> None:
    # The same texts in the same order, if a zero byte joins them.
    first = text_features(sclip_model, ["a"], ("b {}", "c {}"))
    second = text_features(sclip_model, ["a\0b {}"], ("c {}",))
    assert len(entries()) == 2
    assert not torch.equal(first, second)


def test_the_checksum_covers_the_key() -> None:
    assert unseal("key", seal("key", b"content")) == b"content"
    assert unseal("other", seal("key", b"content")) is None
    # Moving bytes between key and content gives another checksum.
    assert unseal("ke", seal("key", b"content")) is None
    assert unseal("key", b"") is None

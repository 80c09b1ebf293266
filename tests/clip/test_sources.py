import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from tagmask.clip import names, sources, verified
from tagmask.clip.download import sha256_of
from tagmask.clip.load import load
from tagmask.clip.names import KNOWN
from tagmask.clip.sources import cached, find
from tagmask.errors import DownloadError, InputError, WeightsError
from tests.known_weights import publish
from tests.servers import serving_file

ADVICE = "Give the path of a weights file, or 'miniature' for the bundled model."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def served(home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that a URL serves for ViT-B-16:openai, the test weights; downloads allowed."""
    file = home / "web.pt"
    shutil.copy(sclip_weights, file)
    monkeypatch.setattr(sources, "fetch", partial(sources.fetch, pause=0.0))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "*")
    with serving_file(file) as url:
        publish(monkeypatch, file, url)
        yield file


def test_openais_cache_is_searched_first(
    home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / ".cache" / "clip" / "ViT-B-16.pt"
    shutil.copy(sclip_weights, file)
    publish(monkeypatch, file)
    for name in ("ViT-B-16:openai", "ViT-B-16-quickgelu:openai"):
        source = find(name)
        assert (source.path, source.known_weights) == (file, names.KNOWN["ViT-B-16:openai"])
    clip = load("ViT-B-16:openai", device="cpu")
    assert (clip.activation_known, clip.preprocessing_known) == (True, True)


@pytest.mark.parametrize("repo", KNOWN["ViT-B-32:openai"].repos)
def test_the_hubs_cache_is_searched_second(repo: str, home: Path) -> None:
    base = home / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    folder = base / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("abc")
    assert cached("ViT-B-32:openai") is None
    timm = repo.startswith("timm")
    (folder / ("open_clip_config.json" if timm else "config.json")).write_text('{"model_type": "clip"}')
    assert cached("ViT-B-32:openai") is None  # no weights yet
    (folder / ("open_clip_model.safetensors" if timm else "model.safetensors")).write_text("x")
    assert find("ViT-B-32:openai").path == folder


def test_absent_weights_are_downloaded_and_then_cached(
    served: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[tuple[str, int, int | None]] = []
    caplog.set_level("INFO", "tagmask")
    clip = load("ViT-B-16:openai", device="cpu", progress=lambda *state: calls.append(state))
    target = home / ".cache" / "clip" / "ViT-B-16.pt"
    assert clip.files == (target,)
    assert calls[-1][:2] == ("ViT-B-16.pt", target.stat().st_size)
    assert f"ViT-B-16:openai: downloading to {target}" in caplog.text
    served.unlink()
    assert load("ViT-B-16:openai", device="cpu").files == (target,)


def test_a_file_with_a_wrong_hash_never_reaches_the_cache(served: Path, home: Path) -> None:
    served.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="has the wrong SHA-256"):
        load("ViT-B-16:openai")
    assert not (home / ".cache" / "clip" / "ViT-B-16.pt").exists()


def test_the_hub_is_tried_if_the_url_fails(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.unlink()
    repos = []

    def download(repo: str, progress: object) -> Path:
        repos.append(repo)
        return tmp_path

    monkeypatch.setattr(sources, "download_folder", download)
    assert find("ViT-B-16:openai").path == tmp_path
    assert repos == ["timm/vit_base_patch16_clip_224.openai"]


def test_failed_downloads_name_both_causes_and_both_alternatives(
    served: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.unlink()

    def unreachable(repo: str, progress: object) -> Path:
        raise DownloadError(f"Cannot download {repo} from the hub: no network.")

    monkeypatch.setattr(sources, "download_folder", unreachable)
    with pytest.raises(DownloadError) as error:
        load("ViT-B-16:openai")
    message = str(error.value)
    problem = "ViT-B-16:openai is not in the caches and cannot be downloaded.\n"
    assert message.startswith(f"{problem}Cannot download ViT-B-16.pt from ")
    assert "from the hub: no network." in message
    assert message.endswith(ADVICE)


def test_offline_nothing_is_downloaded(served: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError) as error:
        load("ViT-B-16:openai")
    problem = "ViT-B-16:openai is not in the caches and cannot be downloaded."
    reason = "Downloads are switched off: HF_HUB_OFFLINE is set."
    assert error.value.lines == (problem, reason, ADVICE)
    assert str(error.value) == "\n".join(error.value.lines)
    assert error.value.reasons == (problem, reason)
    assert not list((home / ".cache" / "clip").iterdir())


def test_existing_paths_take_precedence_over_names(
    home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    shutil.copy(sclip_weights, "ViT-B-16")
    assert find("ViT-B-16").path == Path("ViT-B-16")
    assert find("local-dir:ViT-B-16").path == Path("ViT-B-16")
    assert find(Path("ViT-L-14")).path == Path("ViT-L-14")
    with pytest.raises(WeightsError, match="'ViT-L-14' is an architecture without a tag"):
        find("ViT-L-14")
    assert find("nowhere.pt").path == Path("nowhere.pt")
    assert find("~/x.pt").path == home / "x.pt"


@pytest.mark.parametrize("weights", [None, 3, b"x", ["a"]])
def test_weights_must_be_a_string_or_a_path(weights: object) -> None:
    with pytest.raises(InputError, match="Give a name such as 'ViT-B-16:openai'"):
        cached(weights)


def test_a_name_and_a_file_that_contradict_each_other_are_an_error(
    home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    tensors = torch.load(sclip_weights, weights_only=True)
    file = home / ".cache" / "clip" / "ViT-B-16.pt"
    save_file({k: t.contiguous() for k, t in tensors.items()}, file, {"activation": "gelu"})
    publish(monkeypatch, file)
    with pytest.raises(
        WeightsError, match="the name ViT-B-16:openai says quickgelu but the metadata of ViT-B"
    ):
        load("ViT-B-16:openai")
    assert load("ViT-B-16:openai", activation="gelu").activation == "gelu"


def test_a_cached_file_is_hashed_once_and_refused_unless_it_is_the_published_one(
    home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMASK_HOME", str(home / "tagmask"))
    file = home / ".cache" / "clip" / "ViT-B-16.pt"
    shutil.copy(sclip_weights, file)
    with pytest.raises(
        WeightsError, match=r"ViT-B-16\.pt is not the published file: its SHA-256 starts with"
    ):
        load("ViT-B-16:openai")
    assert find(file).path == file  # a path is the user's own choice
    publish(monkeypatch, file)
    hashed: list[Path] = []
    monkeypatch.setattr(verified, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    find("ViT-B-16:openai")
    find("ViT-B-16:openai")
    assert hashed == []  # remembered since it was refused
    os.utime(file, ns=(1, 1))
    find("ViT-B-16:openai")
    find("ViT-B-16:openai")
    assert hashed == [file]
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="is not the published file"):
        find("ViT-B-16:openai")


@pytest.mark.parametrize("damage", ["swapped", "edited", "pipe", "link", "large"])
def test_a_remembered_hash_is_not_believed_if_it_is_damaged(
    damage: str, home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMASK_HOME", str(home / "tagmask"))
    file, other = home / ".cache" / "clip" / "ViT-B-16.pt", home / "other.pt"
    shutil.copy(sclip_weights, other)
    with other.open("ab") as opened:
        opened.write(b"0")
    verified.verify(other, sha256_of(other))
    (entry_of_other,) = (home / "tagmask" / "hashes").iterdir()
    shutil.copy(sclip_weights, file)
    with pytest.raises(WeightsError):
        verified.verify(file, sha256_of(other))
    (entry,) = set((home / "tagmask" / "hashes").iterdir()) - {entry_of_other}
    if damage == "swapped":
        shutil.copy(entry_of_other, entry)
    elif damage == "edited":
        entry.write_bytes(sha256_of(other).encode() + entry.read_bytes()[64:])
    elif damage == "large":
        with entry.open("ab") as opened:
            opened.truncate(1 << 30)
    else:
        entry.unlink()
        os.mkfifo(entry) if damage == "pipe" else entry.symlink_to(entry_of_other)
    with pytest.raises(WeightsError, match="is not the published file"):
        verified.verify(file, sha256_of(other))
    verified.verify(file, sha256_of(file))


def test_weights_in_the_hubs_cache_are_checked_by_the_name_of_their_blob(home: Path) -> None:
    base = home / "hf" / "hub" / "models--timm--vit_base_patch32_clip_224.openai"
    folder, blobs = base / "snapshots" / "abc", base / "blobs"
    for each in (folder, blobs, base / "refs"):
        each.mkdir(parents=True)
    (base / "refs" / "main").write_text("abc")
    (folder / "open_clip_config.json").write_text("{}")
    blob = blobs / hashlib.sha256(b"weights").hexdigest()
    blob.write_bytes(b"weights")
    (folder / "open_clip_model.safetensors").symlink_to(f"../../blobs/{blob.name}")
    assert find("ViT-B-32:openai").path == folder
    blob.write_bytes(b"WEIGHTS")
    with pytest.raises(WeightsError, match=r"open_clip_model\.safetensors is not the published file"):
        find("hf:timm/vit_base_patch32_clip_224.openai")

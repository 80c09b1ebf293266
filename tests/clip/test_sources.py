import hashlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from tagmask.clip import names, sources
from tagmask.clip.load import load
from tagmask.clip.names import KNOWN
from tagmask.clip.sources import cached, find
from tagmask.errors import DownloadError, InputError, WeightsError

ADVICE = "Give the path of a weights file, or 'miniature' for the bundled model."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def served(home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A URL for ViT-B-16:openai with the test weights, downloads allowed."""
    file = home / "web.pt"
    shutil.copy(sclip_weights, file)
    entry = replace(
        KNOWN["ViT-B-16:openai"],
        url=file.as_uri(),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )
    monkeypatch.setattr(names, "KNOWN", MappingProxyType({**KNOWN, entry.name: entry}))
    monkeypatch.setattr(sources, "fetch", partial(sources.fetch, pause=0.0))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return file


def test_openais_cache_is_searched_first(home: Path, sclip_weights: Path) -> None:
    file = home / ".cache" / "clip" / "ViT-B-16.pt"
    shutil.copy(sclip_weights, file)
    for name in ("ViT-B-16:openai", "ViT-B-16-quickgelu:openai"):
        source = find(name)
        assert (source.path, source.known_weights) == (file, KNOWN["ViT-B-16:openai"])
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
    assert message.startswith("ViT-B-16:openai is not in the caches. Cannot download ViT-B-16.pt from ")
    assert "from the hub: no network." in message
    assert message.endswith(ADVICE)


def test_offline_nothing_is_downloaded(served: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError) as error:
        load("ViT-B-16:openai")
    problem = (
        "ViT-B-16:openai is not in the caches and cannot be downloaded (offline: HF_HUB_OFFLINE is set)."
    )
    assert str(error.value) == f"{problem} {ADVICE}"
    assert error.value.problem == problem
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


def test_a_name_and_a_file_that_contradict_each_other_are_an_error(home: Path, sclip_weights: Path) -> None:
    from safetensors.torch import save_file

    tensors = torch.load(sclip_weights, weights_only=True)
    file = home / ".cache" / "clip" / "ViT-B-16.pt"
    save_file({k: t.contiguous() for k, t in tensors.items()}, file, {"activation": "gelu"})
    with pytest.raises(
        WeightsError, match="the name ViT-B-16:openai says quickgelu but the metadata of ViT-B"
    ):
        load("ViT-B-16:openai")
    assert load("ViT-B-16:openai", activation="gelu").activation == "gelu"

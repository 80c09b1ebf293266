"""The hub's cache, and downloads from a small local hub."""

from pathlib import Path

import pytest

from tagmask.clip.hub import cached_folder, download_folder, hub_cache, offline_variable, split_revision
from tagmask.clip.inspection import inspect_weights
from tagmask.clip.load import load
from tagmask.clip.sources import find
from tagmask.errors import DownloadError, InputError, WeightsError
from tests.clip.local_hub import COMMIT, Hub


@pytest.mark.parametrize(
    ("repo", "expected", "activation"),
    [
        ("repo/open", ["open_clip_config.json", "open_clip_model.safetensors"], "quickgelu"),
        ("repo/hf", ["config.json", "model.safetensors"], "gelu"),
        (
            "repo/shards",
            ["config.json", "model.safetensors.index.json", "one.safetensors", "two.safetensors"],
            "gelu",
        ),
    ],
)
def test_needed_files_are_downloaded_once_and_then_read_offline(
    repo: str,
    expected: list[str],
    activation: str,
    hub: Hub,
    repositories: dict[str, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.files = repositories
    calls: list[tuple[str, int, int | None]] = []
    assert cached_folder(repo) is None
    clip = load(f"hf:{repo}", device="cpu", progress=lambda *state: calls.append(state))
    assert (clip.activation, clip.activation_known, clip.name) == (activation, True, f"hf:{repo}")
    assert hub.requests == expected
    assert calls[-1] == (expected[-1], *[len(repositories[repo][expected[-1]])] * 2)
    assert capfd.readouterr() == ("", "")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", forbidden)
    for name in (f"hf:{repo}", f"hf-hub:{repo}@main", f"hf:{repo}@{COMMIT}"):
        assert load(name, device="cpu").files == clip.files
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find(f"hf:{repo}").path == clip.files[0].parent


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        ("repo/siglip", "a model of type 'siglip'"),
        (
            "repo/nothing",
            "neither open_clip_config.json with weights nor config.json. Its 1 files: README.md.",
        ),
        ("repo/flax", "has no PyTorch weights"),
    ],
)
def test_unsupported_repositories_are_refused_before_their_weights_are_downloaded(
    repo: str, message: str, hub: Hub, repositories: dict[str, dict[str, bytes]]
) -> None:
    hub.files = repositories
    with pytest.raises(WeightsError) as error:
        load(f"hf:{repo}")
    assert message in str(error.value)
    assert "model.safetensors" not in hub.requests


def test_a_damaged_download_is_deleted(hub: Hub, repositories: dict[str, dict[str, bytes]]) -> None:
    hub.files, hub.damage = repositories, b"damage"
    with pytest.raises(
        WeightsError, match=r"open_clip_model\.safetensors from 127\.0\.0\.1 has the wrong SHA-256"
    ):
        load("hf:repo/open")
    assert cached_folder("repo/open") is None
    hub.damage = b""
    clip = load("hf:repo/open", device="cpu")
    inspection = inspect_weights("hf:repo/open")
    assert inspection.files == clip.files
    assert inspection.published
    assert inspection.faults == ()


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((404, "RepoNotFound"), "no such repository, or it is private"),
        ((404, "RevisionNotFound"), "no such revision"),
        ((403, "GatedRepo"), "it is gated, so accept its terms"),
        ((403, ""), "HTTP status 403"),
    ],
)
def test_refusals_of_the_hub_are_explained(refusal: tuple[int, str], message: str, hub: Hub) -> None:
    hub.refusal = refusal
    with pytest.raises(DownloadError) as error:
        load("hf:repo/open")
    assert f"Cannot download repo/open from the hub: {message}" in str(error.value)
    assert "Give the path of a weights file, or 'miniature'" in str(error.value)


def test_an_unreachable_hub_is_reported(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        DownloadError,
        match=r"repo/open is not in the caches .*\.\nCannot download repo/open from the hub: ",
    ):
        load("hf:repo/open")


def test_offline_the_network_is_not_used(hub: Hub, offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "")
        monkeypatch.setenv(variable, "1")
        with pytest.raises(DownloadError, match=rf"cannot be downloaded\.\n.*: {variable} is set\."):
            load("hf:repo/open")


def test_an_incomplete_folder_is_not_cached(hub: Hub, repositories: dict[str, dict[str, bytes]]) -> None:
    hub.files = repositories
    folder = download_folder("repo/shards")
    (folder / "two.safetensors").unlink()
    assert cached_folder("repo/shards") is None
    assert download_folder("repo/shards") == folder
    assert cached_folder("repo/shards") == folder


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/c", "HF_HOME": "/b"}, "/c"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/x"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "~/b"}, str(Path("~/b/hub").expanduser())),
        ({}, str(Path("~/.cache/huggingface/hub").expanduser())),
    ],
)
def test_the_cache_folder_is_that_of_huggingface_hub(environ: dict[str, str], expected: str) -> None:
    assert hub_cache(environ) == Path(expected)


def test_offline_variables_are_read_as_by_huggingface_hub() -> None:
    for value in ("1", "true", "YES", "on"):
        assert offline_variable({"HF_HUB_OFFLINE": value}) == "HF_HUB_OFFLINE"
    assert offline_variable({"TRANSFORMERS_OFFLINE": "1"}) == "TRANSFORMERS_OFFLINE"
    assert offline_variable({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}) is None
    assert not any(offline_variable({"HF_HUB_OFFLINE": value}) for value in ("", "0", "false"))
    assert offline_variable({}) is None


@pytest.mark.parametrize(
    "text",
    ["", "clip", "a/b/c", "a/b@", "a /b", "../b@x", "a/b@../x", "a--b/c", "a/b@/etc/x", "a/b@x\ny", "a/b@-x"],
)
def test_invalid_repository_names(text: str) -> None:
    with pytest.raises(InputError, match="Invalid repository"):
        split_revision(text)


def test_the_cache_is_laid_out_as_the_hubs_own_client_does(
    hub: Hub, repositories: dict[str, dict[str, bytes]]
) -> None:
    from huggingface_hub import scan_cache_dir

    hub.files = repositories
    folder = download_folder("repo/shards")
    found = scan_cache_dir(hub_cache())
    assert not found.warnings
    (repo,) = found.repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, revision.refs) == ("repo/shards", COMMIT, {"main"})
    assert revision.snapshot_path == folder
    assert {file.file_name for file in revision.files} == set(repositories["repo/shards"])

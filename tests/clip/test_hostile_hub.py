"""Answers of a hub that do harm, or are none."""

import hashlib
import json
from pathlib import Path

import pytest

from tagmask.clip.hub import cached_folder, download_folder
from tagmask.clip.load import load
from tagmask.errors import DownloadError, WeightsError
from tests.clip.local_hub import COMMIT, Hub

ESCAPES = (
    "../../../../escaped",
    "/tmp/escaped",
    "..",
    "",
    "W/",
    "0" * 63,
    "0" * 65,
    "A" * 64,
    "1" * 40,
    "a\\b",
)


@pytest.mark.parametrize("tag", ESCAPES)
def test_weights_without_a_sha256_are_refused_and_no_server_names_a_path(
    tag: str, hub: Hub, repositories: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    hub.files = repositories
    hub.tags = {"model.safetensors": tag}
    before = {path for path in tmp_path.rglob("*") if "hf" not in path.parts}
    with pytest.raises(DownloadError, match=r"model\.safetensors of repo/hf: the server gives no SHA-256"):
        load("hf:repo/hf")
    assert "model.safetensors" not in hub.requests
    assert {path for path in tmp_path.rglob("*") if "hf" not in path.parts} == before
    assert cached_folder("repo/hf") is None
    assert not [path for path in (tmp_path / "hf").rglob("*") if "escaped" in path.name]


@pytest.mark.parametrize("tag", ESCAPES)
def test_a_config_is_stored_under_a_hash_whatever_its_tag(
    tag: str, hub: Hub, repositories: dict[str, dict[str, bytes]]
) -> None:
    hub.files = repositories
    hub.tags = {"config.json": tag}
    folder = download_folder("repo/hf")
    blob = (folder / "config.json").resolve()
    assert blob.parent == folder.parent.parent / "blobs"
    assert blob.name in (tag, hashlib.sha256(repositories["repo/hf"]["config.json"]).hexdigest())


def test_a_damaged_config_is_refused(hub: Hub, repositories: dict[str, dict[str, bytes]]) -> None:
    hub.files, hub.tags = repositories, {"config.json": "0" * 64}
    with pytest.raises(DownloadError, match=r"config\.json has the wrong SHA-256"):
        download_folder("repo/hf")
    assert cached_folder("repo/hf") is None


@pytest.mark.parametrize("commit", ["../../../x", "", "main", "/tmp", "1" * 39, None, 7, ["1" * 40]])
def test_a_commit_that_is_no_hash_is_refused(
    commit: object, hub: Hub, repositories: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    hub.files, hub.commit = repositories, commit
    with pytest.raises(DownloadError, match="it does not answer as a hub"):
        download_folder("repo/hf")
    assert not (tmp_path / "hf").exists()


def test_an_index_can_name_only_files_of_the_repository(
    hub: Hub, repositories: dict[str, dict[str, bytes]]
) -> None:
    for name, error, reason in (
        ("no.safetensors", DownloadError, "has no file '.*', which its index names"),
        ("x" * 5000, WeightsError, "names x+…. Expected names of files in its own folder"),
    ):
        index = json.dumps({"weight_map": {"a": name}}).encode()
        hub.files = {"repo/shards": {**repositories["repo/shards"], "model.safetensors.index.json": index}}
        with pytest.raises(error, match=reason) as caught:
            download_folder("repo/shards")
        assert len(str(caught.value)) < 500


def test_what_follows_the_stated_length_is_not_read(
    hub: Hub, repositories: dict[str, dict[str, bytes]]
) -> None:
    hub.files, hub.more = repositories, b"x" * 1_000_000
    folder = download_folder("repo/hf")
    assert (folder / "model.safetensors").read_bytes() == repositories["repo/hf"]["model.safetensors"]


@pytest.mark.parametrize("info", [b"[" * 100_000, b"null", b"[]", b'{"sha": NaN}', b"\xff", b"<html>"])
def test_an_answer_that_is_no_hubs_is_reported(
    info: bytes, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.clip.hub_repository.get_bytes", lambda *_: info)
    with pytest.raises(DownloadError, match="it does not answer as a hub"):
        download_folder("repo/hf")


def test_a_list_of_files_without_end_is_given_up(
    hub: Hub, repositories: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files = repositories
    monkeypatch.setattr("tagmask.clip.hub_repository._INFO_LIMIT", 20)
    with pytest.raises(DownloadError, match="it sends more than 0 MB"):
        download_folder("repo/hf")


def test_a_link_in_place_of_a_file_is_replaced_and_not_written_through(
    hub: Hub, repositories: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    hub.files = repositories
    (tmp_path / "precious").write_text("precious")
    base = tmp_path / "hf" / "hub" / "models--repo--hf"
    digest = hashlib.sha256(repositories["repo/hf"]["model.safetensors"]).hexdigest()
    for link in (
        base / "snapshots" / COMMIT / "model.safetensors",
        base / "snapshots" / COMMIT / "config.json",
        base / "blobs" / f".{digest}.part",
        base / "refs" / "main",
    ):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "precious")
    folder = download_folder("repo/hf")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (folder / "model.safetensors").read_bytes() == repositories["repo/hf"]["model.safetensors"]
    assert (base / "refs" / "main").read_text() == COMMIT

"""The hub's cache, and downloads from a small local hub."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tagmask.clip.hub import cached_folder, download_folder, hub_cache, offline_variable, split_revision
from tagmask.clip.inspection import inspect_weights
from tagmask.clip.load import load
from tagmask.clip.sources import find
from tagmask.errors import DownloadError, InputError, WeightsError
from tests.oracles import clip_tree, hugging_face
from tests.servers import QuietHandler, serving

COMMIT = "1234567890" * 4
SIZES = {"width": 64, "layers": 1, "patch": 8, "side": 16, "embed": 24, "text_width": 64, "text_layers": 1}


@dataclass
class Hub:
    """Repositories by name, each with its files, and the files requested so far."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    damage: bytes = b""
    """Replaces the end of every large file."""
    tags: dict[str, str] = field(default_factory=dict)
    """ETags by file, instead of the SHA-256."""
    commit: str = COMMIT
    more: bytes = b""
    """Follows every answer, beyond its stated length."""
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(QuietHandler):
        def do_HEAD(self) -> None:
            self.respond(body=False)

        def do_GET(self) -> None:
            self.respond(body=True)

        def respond(self, *, body: bool) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if state.refusal:
                self.reply(state.refusal[0], b"", {"X-Error-Code": state.refusal[1]}, body)
            elif parts[:2] == ["api", "models"]:
                repo = "/".join(parts[2:4])
                files = [{"rfilename": name} for name in state.files[repo]]
                info = {"id": repo, "sha": state.commit, "siblings": files}
                self.reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
            else:
                repo, name = "/".join(parts[:2]), parts[-1]
                data = state.files[repo][name]
                if body:
                    state.requests.append(name)
                tag = state.tags.get(name, hashlib.sha256(data).hexdigest())
                if state.damage and len(data) > 100_000:
                    data = data[: -len(state.damage)] + state.damage
                self.reply(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body)

        def reply(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data + state.more)

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(Handler) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield state


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

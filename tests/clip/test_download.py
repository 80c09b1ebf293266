"""Downloads from a local server that stops, sends other data and refuses on demand."""

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tagmask.clip.download import fetch, sha256_of
from tagmask.errors import DownloadError, OutputError, WeightsError
from tests.servers import QuietHandler, serving

DATA = bytes(range(256)) * 12_000  # 3 MB
SHA = hashlib.sha256(DATA).hexdigest()


@dataclass
class Site:
    """The state of the server."""

    url: str = ""
    stops: list[int] = field(default_factory=list)
    """The number of bytes after which each of the next responses stops."""
    refusals: list[int] = field(default_factory=list)
    """Status codes of the next responses."""
    ranges: bool = True
    body: bytes = DATA
    requests: list[str] = field(default_factory=list)
    """The Range header of every request."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    state = Site()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            header = self.headers.get("Range", "")
            state.requests.append(header)
            if state.refusals:
                self.send_error(state.refusals.pop(0))
                return
            match = re.fullmatch(r"bytes=(\d+)-", header)
            start = int(match[1]) if match and state.ranges else 0
            if start and start >= len(state.body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.body) - start))
            self.end_headers()
            stop = state.stops.pop(0) if state.stops else len(state.body)
            self.wfile.write(state.body[start : start + stop])

    with serving(Handler) as url:
        state.url = f"{url}/ViT.pt"
        yield state


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "ViT.pt"


def get(site: Site, target: Path, **options: object) -> None:
    fetch(site.url, target, SHA, pause=0.0, **{"limit": 5_000_000, **options})


def test_download_is_complete_and_reports_progress(site: Site, target: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    get(site, target, progress=lambda *state: calls.append(state))
    assert target.read_bytes() == DATA
    assert sha256_of(target) == SHA
    assert calls[-1] == ("ViT.pt", len(DATA), len(DATA))
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert {path.name for path in target.parent.iterdir()} <= {"ViT.pt", ".ViT.pt.lock"}
    get(site, target)
    assert len(site.requests) == 1  # exists already


def test_broken_connections_are_resumed(site: Site, target: Path) -> None:
    site.stops = [1_000_000, 0, 500_000]
    get(site, target)
    assert target.read_bytes() == DATA
    assert site.requests == ["", "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]


def test_a_later_run_resumes(site: Site, target: Path) -> None:
    site.stops = [700_000]

    def stop(name: str, done: int, total: int | None) -> None:
        if done == 700_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(site, target, progress=stop)
    assert not target.exists()
    received: list[int] = []
    get(site, target, progress=lambda _, done, __: received.append(done))
    assert target.read_bytes() == DATA
    assert site.requests == ["", "bytes=700000-"]
    assert received[0] > 700_000


def test_a_server_without_ranges_restarts_the_download(site: Site, target: Path) -> None:
    site.stops, site.ranges = [1_000_000], False
    get(site, target)
    assert target.read_bytes() == DATA


def test_a_complete_partial_file_is_used(site: Site, target: Path) -> None:
    target.parent.mkdir()
    target.with_name(".ViT.pt.part").write_bytes(DATA)
    get(site, target)
    assert target.read_bytes() == DATA
    assert site.requests == [f"bytes={len(DATA)}-"]


@pytest.mark.parametrize("start", [b"", b"\0" * 1000])
def test_a_wrong_hash_is_refused_and_the_file_deleted(start: bytes, site: Site, target: Path) -> None:
    target.parent.mkdir()
    if start:  # left by an earlier download of something else
        target.with_name(".ViT.pt.part").write_bytes(start)
    else:
        site.body = b"<html>Please log in</html>"
    with pytest.raises(WeightsError, match=r"ViT\.pt from 127\.0\.0\.1 has the wrong SHA-256"):
        get(site, target)
    assert not target.exists()
    site.body = DATA
    get(site, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("status", [403, 404])
def test_http_errors_are_reported(status: int, site: Site, target: Path) -> None:
    site.refusals = [status]
    with pytest.raises(
        DownloadError, match=rf"Cannot download ViT\.pt from 127\.0\.0\.1: HTTP status {status}\."
    ):
        get(site, target)
    assert len(site.requests) == 1


def test_server_errors_are_retried(site: Site, target: Path) -> None:
    site.refusals = [503]
    get(site, target)
    assert target.read_bytes() == DATA
    site.refusals = [503] * 9
    with pytest.raises(DownloadError, match=r"from 127\.0\.0\.1: HTTP status 503\."):
        get(site, target.with_name("other.pt"))


def test_no_network_fails_quickly(site: Site, target: Path) -> None:
    with pytest.raises(DownloadError, match=r"Cannot download ViT\.pt from 127\.0\.0\.1: .*refused"):
        fetch("http://127.0.0.1:9/ViT.pt", target, SHA, pause=0.0, limit=5_000_000)
    assert not target.exists()


def test_concurrent_downloads_download_once(site: Site, target: Path) -> None:
    threads = [threading.Thread(target=get, args=(site, target)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == DATA
    assert site.requests == [""]


def test_missing_disk_space_is_reported_before_the_download(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OutputError, match=r"Not enough space in .* for the download: 3 MB needed, 0 MB free"):
        get(site, target)


def test_an_unwritable_cache_is_reported(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        get(site, tmp_path / "cache" / "ViT.pt")
    assert site.requests == []

"""Against a server of this machine that stops, lies and refuses on demand."""

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
    """What the server does next."""

    url: str = ""
    stops: list[int] = field(default_factory=list)
    """After how many bytes of the body each of the next answers breaks off."""
    refusals: list[int] = field(default_factory=list)
    """Status codes of the next answers."""
    ranges: bool = True
    body: bytes = DATA
    asked: list[str] = field(default_factory=list)
    """The Range header of every request."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    state = Site()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            if state.refusals:
                self.send_error(state.refusals.pop(0))
                return
            found = re.fullmatch(r"bytes=(\d+)-", wanted)
            start = int(found[1]) if found and state.ranges else 0
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
    fetch(site.url, target, SHA, pause=0.0, **options)


def test_a_file_comes_whole_with_its_progress(site: Site, target: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    get(site, target, progress=lambda *state: seen.append(state))
    assert target.read_bytes() == DATA
    assert sha256_of(target) == SHA
    assert seen[-1] == ("ViT.pt", len(DATA), len(DATA))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert {path.name for path in target.parent.iterdir()} <= {"ViT.pt", ".ViT.pt.lock"}
    get(site, target)
    assert len(site.asked) == 1  # there already


def test_broken_connections_go_on_where_they_stopped(site: Site, target: Path) -> None:
    site.stops = [1_000_000, 0, 500_000]
    get(site, target)
    assert target.read_bytes() == DATA
    assert site.asked == ["", "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]


def test_a_later_run_goes_on_too(site: Site, target: Path) -> None:
    site.stops = [700_000]

    def stop(name: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(site, target, progress=stop)
    assert not target.exists()
    seen: list[int] = []
    get(site, target, progress=lambda _, done, __: seen.append(done))
    assert target.read_bytes() == DATA
    assert site.asked == ["", "bytes=700000-"]
    assert seen[0] > 700_000


def test_a_server_without_ranges_sends_all_again(site: Site, target: Path) -> None:
    site.stops, site.ranges = [1_000_000], False
    get(site, target)
    assert target.read_bytes() == DATA


def test_a_whole_part_is_taken_as_it_is(site: Site, target: Path) -> None:
    target.parent.mkdir()
    target.with_name(".ViT.pt.part").write_bytes(DATA)
    get(site, target)
    assert target.read_bytes() == DATA
    assert site.asked == [f"bytes={len(DATA)}-"]


@pytest.mark.parametrize("start", [b"", b"\0" * 1000])
def test_another_file_is_refused_and_removed(start: bytes, site: Site, target: Path) -> None:
    target.parent.mkdir()
    if start:  # left by an earlier download of something else
        target.with_name(".ViT.pt.part").write_bytes(start)
    else:
        site.body = b"<html>Please log in</html>"
    with pytest.raises(WeightsError, match=r"ViT\.pt from 127\.0\.0\.1 is not the file that was wanted"):
        get(site, target)
    assert not target.exists()
    site.body = DATA
    get(site, target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("status", [403, 404])
def test_refusals_are_named(status: int, site: Site, target: Path) -> None:
    site.refusals = [status]
    with pytest.raises(DownloadError, match=f"is not to be had from 127.0.0.1: it answers {status}"):
        get(site, target)
    assert len(site.asked) == 1


def test_a_server_in_trouble_is_asked_again(site: Site, target: Path) -> None:
    site.refusals = [503]
    get(site, target)
    assert target.read_bytes() == DATA
    site.refusals = [503] * 9
    with pytest.raises(DownloadError, match=r"cannot be downloaded from 127\.0\.0\.1: it answers 503"):
        get(site, target.with_name("other.pt"))


def test_no_network_is_said_soon(site: Site, target: Path) -> None:
    with pytest.raises(DownloadError, match=r"ViT\.pt cannot be downloaded from 127\.0\.0\.1: .*refused"):
        fetch("http://127.0.0.1:9/ViT.pt", target, SHA, pause=0.0)
    assert not target.exists()


def test_two_at_once_download_once(site: Site, target: Path) -> None:
    threads = [threading.Thread(target=get, args=(site, target)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == DATA
    assert site.asked == [""]


def test_no_room_is_said_before_anything_comes(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OutputError, match="no room for the download: 3 MB more are needed and 0 MB are free"):
        get(site, target)


def test_a_cache_that_cannot_be_written_is_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        get(site, tmp_path / "cache" / "ViT.pt")
    assert site.asked == []

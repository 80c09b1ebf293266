import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from tagmask.errors import InputError, OutputError
from tagmask.runs import lock as module
from tagmask.runs.lock import STALE_SECONDS, Holder, RunLock, holder_of

HOLD = """
import sys
from pathlib import Path
from tagmask.runs.lock import RunLock
lock = RunLock.take(Path(sys.argv[1]), network=sys.argv[2] == "True")
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run/run.lock"


def write_holder(path, **changed):
    holder = {"host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00", "began": "1", "token": "ab"}
    path.write_text(json.dumps({"tagmask_lock": holder | changed}))


@pytest.mark.parametrize("network", [False, True])
def test_a_second_producer_is_told_host_process_and_since_when(path, network):
    lock = RunLock.take(path, network=network)
    with pytest.raises(InputError, match=f"process {os.getpid()} on {socket.gethostname()}, since 20"):
        RunLock.take(path, network=network)
    assert holder_of(path) == lock.holder
    lock.check()
    lock.release()
    assert not path.exists()
    assert holder_of(path) is None
    RunLock.take(path, network=network).release()


@pytest.mark.parametrize("network", [False, True])
def test_the_lock_of_a_living_process_holds_and_that_of_a_killed_one_is_taken_over(path, network):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(network)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"taken\n"
    with pytest.raises(InputError, match=f"process {process.pid} "):
        RunLock.take(path, network=network)
    process.kill()
    process.communicate()
    assert path.exists()
    assert holder_of(path) is None
    lock = RunLock.take(path, network=network)
    assert lock.holder.pid == os.getpid()
    lock.check()
    lock.release()


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("left", [None, {}])
def test_a_holder_on_another_machine_counts_while_its_heartbeat_does(path, network, left):
    """`left` None: a lock that was made and not yet written."""
    path.write_bytes(b"") if left is None else write_holder(path, **left)
    if left is not None or network:
        with pytest.raises(InputError, match="is being written by"):
            RunLock.take(path, network=network)
    old = time.time() - STALE_SECONDS - 5
    os.utime(path, (old, old))
    RunLock.take(path, network=network).release()
    assert list(path.parent.iterdir()) == []


def test_a_later_process_of_the_same_number_is_not_the_holder(path):
    write_holder(path, host=socket.gethostname(), pid=os.getpid(), began="1")
    RunLock.take(path, network=True).release()


def test_a_lock_that_was_taken_in_the_meantime_is_put_back(path):
    write_holder(path, token="new")
    before = path.read_bytes()
    module._remove_stale(path, Holder("elsewhere", 1, "2026", "1", "old"))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["run.lock"]


def test_the_heartbeat_touches_the_file(path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    lock = RunLock.take(path, network=True)
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 5
    while path.stat().st_mtime < 1000 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.stat().st_mtime > 1000
    lock.release()


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("made_anew", [False, True])
def test_a_run_that_was_deleted_is_noticed_and_the_next_one_left_alone(path, network, made_anew):
    lock = RunLock.take(path, network=network)
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    next_lock = RunLock.take(path, network=network) if made_anew else None
    with pytest.raises(OutputError, match="deleted, moved or taken over"):
        lock.check()
    lock.release()
    if next_lock is not None:
        next_lock.check()
        next_lock.release()


@pytest.mark.parametrize("network", [False, True])
def test_another_programs_file_is_refused_untouched(path, network):
    path.write_text("pid 77")
    with pytest.raises(InputError, match="not a lock that tagmask wrote"):
        RunLock.take(path, network=network)
    assert path.read_text() == "pid 77"


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "deep", "large"])
def test_a_hostile_file_is_refused_at_once(path, network, kind):
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"[" * 100_000 if kind == "deep" else b"x")
        os.truncate(path, 1 << 30 if kind == "large" else 100_000)
    with pytest.raises(InputError, match="not a lock that tagmask wrote"):
        RunLock.take(path, network=network)


@pytest.mark.skipif(module.fcntl is None, reason="no flock")
def test_a_lock_whose_file_was_removed_while_it_was_taken_is_taken_anew(path, monkeypatch):
    """The holder before removes its file just after this process opened it."""
    flock, calls = module.fcntl.flock, []

    def late(file, how):
        if not calls:
            path.unlink()
        calls.append(how)
        flock(file, how)

    monkeypatch.setattr(module.fcntl, "flock", late)
    lock = RunLock.take(path, network=False)
    lock.check()
    assert holder_of(path) == lock.holder
    lock.release()


def test_names_of_hosts_do_not_reach_a_terminal_raw():
    assert str(Holder("a\x1b[1m", 7, "2026")) == "process 7 on a\\x1b[1m, since 2026"
    assert set(asdict(Holder("a", 1, "b"))) == {"host", "pid", "since", "began", "token"}

"""The kill test of `make kill`, with a stub in place of the commands."""

import os
import random
import sys
from pathlib import Path

import pytest
from benchmarks.kills import Case, Report, Snapshot, attack, table

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9")

STUB = (sys.executable, "-m", "tests.runs.stub_producer", "{photos}", "{out}", "{made}", "0.02")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(Path(__file__).parents[2])
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i in range(30):
        (folder / ("sub" if i % 3 == 0 else "") / f"{i:02}.png").write_bytes(i.to_bytes(4, "big") * 5)
    return folder


def attacked(command: tuple[str, ...], photos: Path, tmp_path: Path, kills: int) -> Report:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folders = {"photos": photos, "made": tmp_path / "begun"}
    return attack(Case("stub", command), folders, scratch, kills, random.Random(0))


@pytest.mark.kills
def test_a_command_that_goes_on_is_faultless(photos: Path, tmp_path: Path) -> None:
    report = attacked(STUB, photos, tmp_path, kills=3)
    assert report.kills == 3
    assert report.faultless, report


def test_faults_are_counted(photos: Path, tmp_path: Path) -> None:
    """A command that forgets what was done, names outputs by chance and leaves a part."""
    (tmp_path / "bad.py").write_text(
        "import os, random, sys, time\n"
        "from pathlib import Path\n"
        "photos, out = map(Path, sys.argv[1:])\n"
        "(out / 'masks').mkdir(parents=True, exist_ok=True)\n"
        "(out / 'masks' / f'{os.getpid()}.png').write_bytes(b'doubled')\n"
        "(out / f'.tagmask-{os.getpid()}-0123456789abcdef.part').touch()\n"
        "for photo in sorted(photos.rglob('*.png')):\n"
        "    (out / 'masks' / photo.name).write_bytes(random.randbytes(8))\n"
        "    time.sleep(0.02)\n"
    )
    command = (sys.executable, str(tmp_path / "bad.py"), "{photos}", "{out}")
    report = attacked(command, photos, tmp_path, kills=2)
    assert not report.faultless
    assert report.doubled >= 1
    assert report.lost >= 1  # the name that only the uninterrupted run has
    assert report.different == 30
    assert report.left_over >= 1
    assert report.made_again >= 1


def test_masks_without_rows_are_in_work(photos: Path, tmp_path: Path) -> None:
    from tests.runs.stub_producer import produce

    produce(photos, tmp_path / "run")
    (tmp_path / "run" / "masks" / "31.png").write_bytes(b"not recorded")
    snapshot = Snapshot.of(tmp_path / "run")
    assert len(snapshot.done) == 30
    assert list(snapshot.in_work) == ["masks/31.png"]


def test_the_table_sums_up() -> None:
    text = table({"mask": Report(kills=17, in_work=2), "tag": Report(kills=18, lost=1)})
    assert text.splitlines()[2:] == [
        "| `mask` | 17 | 0 | 0 | 0 | 2 | 0 | 0 |",
        "| `tag` | 18 | 1 | 0 | 0 | 0 | 0 | 0 |",
        "| all | 35 | 1 | 0 | 0 | 2 | 0 | 0 |",
    ]

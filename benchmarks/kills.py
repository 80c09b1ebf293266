"""Commands killed at random moments and run again until they end: `make kill`.

    python -m benchmarks.kills [--kills N] [--images N] [--only mask,tag] [--seed N]

Each command writes a folder from 200 small drawn images. It is killed (SIGKILL) at a random moment, while it
starts or while it works; then the same command goes on. When it has ended, its folder is compared with that
of a run that nobody killed. A command that ends before it was killed often enough begins again in a new
folder.

One Markdown table is printed. The exit code is 1 if anything was lost, doubled, made again without having
been in work, different, or left over.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from PIL import Image as PILImage

from tagmask.errors import TagmaskError
from tagmask.files import write_bytes
from tagmask.masks import index_png
from tagmask.miniature.scenes import CLASS_NAMES, draw_scene, plan_scene
from tagmask.runs.reader import Run

__all__ = ["CASES", "Case", "Report", "attack", "table"]

SIZE = (64, 96)
"""(h, w) of the drawn images."""
WORDS = ("cat", "car", "tree", "star")
START_SHARE = 0.25
"""Share of kills while the command starts."""
TIMES = ("updated", "seconds")
"""Fields of rows that differ from run to run."""
COMPARED = ("*.png", "*.jpg", "*.safetensors", "classes.json")
"""Files that must be equal byte for byte."""
LEFT_OVER = (".tagmask-*.part", "*.partial")

TAGMASK = (sys.executable, "-m", "tagmask")
MODEL = ("--weights", "miniature", "--device", "cpu", "--precision", "float32")
NAMED = tuple(part for word in WORDS for part in ("-w", word))
SMALL = ("--set", "batch=2", "--set", "crop=64", "--set", "run.device=cpu")


@dataclass(frozen=True)
class Case:
    """A command that goes on when it is run again."""

    name: str
    command: tuple[str, ...]
    """`{photos}`, `{data}` (a data set), `{made}` (what `first` writes) and `{out}` stand for folders."""
    first: tuple[tuple[str, ...], ...] = ()
    """Commands whose results this one needs; they are not killed."""


SEEDS = (*TAGMASK, "train", "seeds", "{photos}", "-o", "{made}/seeds", *NAMED, *MODEL, "--method", "sclip")
WEAKCLIP = (
    *(*TAGMASK, "train", "weakclip", "-o", "{made}/weakclip", "--config", "weakclip/miniature"),
    *("--images", "{photos}", "--seeds", "{made}/seeds", "--weights", "miniature", *SMALL),
    *("--set", "base_short=64", "--set", "loss.size=16", "--set", "steps=2"),
)

CASES = (
    Case("mask", (*TAGMASK, "mask", "{photos}", "-o", "{out}", *NAMED, *MODEL)),
    Case("tag", (*TAGMASK, "tag", "{photos}", "-o", "{out}", *NAMED, *MODEL)),
    Case(
        "bench run",
        (
            *(
                *TAGMASK,
                "bench",
                "run",
                "sclip/voc21",
                "--dataset",
                "folder",
                "--data",
                "{data}",
                "-o",
                "{out}",
            ),
            *(*MODEL, "--set", "short_side=64", "--set", "crop=64", "--set", "stride=64"),
            *("--refine", "none", "--resume"),
        ),
    ),
    Case(
        "train seeds",
        (*TAGMASK, "train", "seeds", "{photos}", "-o", "{out}", *NAMED, *MODEL, "--method", "sclip"),
    ),
    Case(
        "train pseudo",
        (
            *(*TAGMASK, "train", "pseudo", "{photos}", "-o", "{out}", "--model", "{made}/weakclip"),
            *("--scales", "0.5", "--no-flip", "--crf", "none", "--device", "cpu", "--precision", "float32"),
        ),
        (SEEDS, WEAKCLIP),
    ),
    Case(
        "train student",
        (
            *(*TAGMASK, "train", "student", "-o", "{out}", "--config", "student/miniature"),
            *("--images", "{photos}", "--masks", "{made}/seeds", *SMALL, "--set", "steps=40"),
            *("--set", "run.checkpoint_every=2", "--set", "run.log_every=2"),
        ),
        (SEEDS,),
    ),
)


@dataclass
class Report:
    """What the kills of one command did. All but the first two should be 0."""

    kills: int = 0
    in_work: int = 0
    """Images made again that were in work when the command was killed: with a mask, but not yet recorded."""
    lost: int = 0
    doubled: int = 0
    made_again: int = 0
    """Images made again although they were recorded as done."""
    different: int = 0
    left_over: int = 0

    @property
    def faultless(self) -> bool:
        """Whether only what was in work was made again."""
        return not (self.lost or self.doubled or self.made_again or self.different or self.left_over)


@dataclass(frozen=True)
class Snapshot:
    """A folder while no process writes to it."""

    done: Mapping[str, object] = field(default_factory=dict)
    """When each image that is recorded as done was made."""
    in_work: Mapping[str, object] = field(default_factory=dict)
    """When each mask that is not recorded was made."""

    @classmethod
    def of(cls, out: Path) -> "Snapshot":
        """Read a folder's rows; without any, each mask counts as done."""
        masks = {_name(out, file): file.stat().st_mtime_ns for file in out.rglob("masks/**/*.png")}
        rows = list(_rows(out))
        if not rows and not any(out.rglob("run.db")):
            return cls(masks)
        recorded = {f"{folder}/masks/{row['name']}.png".removeprefix("./") for folder, row in rows}
        done = {f"{folder}/{row['key']}": row["updated"] for folder, row in rows}
        return cls(done, {name: made for name, made in masks.items() if name not in recorded})


def attack(
    case: Case, folders: Mapping[str, Path], scratch: Path, kills: int, chance: random.Random
) -> Report:
    """Kill a command until it was killed often enough; go on until it ends; compare.

    Args:
        case: the command.
        folders: what its placeholders stand for, but `{out}`.
        scratch: an empty folder to work in.
        kills: how often to kill it.
        chance: when.
    """
    for command in case.first:
        _run_to_end(_filled(command, folders, scratch))
    whole = scratch / "whole"
    begun = time.monotonic()
    starting = _run_to_end(_filled(case.command, folders, whole), whole)
    working = time.monotonic() - begun - starting
    expected = _results(whole)
    if not expected:
        raise SystemExit(f"`{case.name}` wrote nothing that can be compared.")
    report, number = Report(), 0
    while report.kills < kills:
        number += 1
        out = scratch / f"killed-{number}"
        command = _filled(case.command, folders, out)
        before = Snapshot()
        while report.kills < kills:
            if chance.random() < START_SHARE:
                killed = _killed(command, out, at_work=False, seconds=chance.random() * starting)
            else:
                killed = _killed(command, out, at_work=True, seconds=chance.random() * 2 * working / kills)
            if not killed:
                break
            report.kills += 1
            after = Snapshot.of(out)
            _count(report, before, after)
            before = after
        _run_to_end(command)
        _count(report, before, Snapshot.of(out))
        _compare(report, expected, _results(out))
        report.left_over += sum(1 for pattern in LEFT_OVER for _ in out.rglob(pattern))
    return report


def _count(report: Report, before: Snapshot, after: Snapshot) -> None:
    for key, made in before.done.items():
        report.lost += key not in after.done
        report.made_again += key in after.done and after.done[key] != made
    now = {**after.done, **after.in_work}
    report.in_work += sum(1 for name, made in before.in_work.items() if now.get(name) != made)


def _compare(report: Report, expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    report.lost += len(expected.keys() - found.keys())
    report.doubled += len(found.keys() - expected.keys())
    report.different += sum(1 for name in expected.keys() & found.keys() if expected[name] != found[name])


def _results(out: Path) -> dict[str, str]:
    """A hash of each row and of each file that must be equal."""
    hashes = {
        _name(out, file): hashlib.sha256(_content(file)).hexdigest()
        for pattern in COMPARED
        for file in out.rglob(pattern)
    }
    for folder, row in _rows(out):
        text = json.dumps(_without_times(row), sort_keys=True, default=str)
        hashes[f"{folder}: {row['key']}"] = hashlib.sha256(text.encode()).hexdigest()
    return hashes


def _content(file: Path) -> bytes:
    """Its bytes; of safetensors the header is sorted, since each process writes it in another order."""
    content = file.read_bytes()
    if file.suffix != ".safetensors":
        return content
    start = 8 + int.from_bytes(content[:8], "little")
    return json.dumps(json.loads(content[8:start]), sort_keys=True).encode() + content[start:]


def _rows(out: Path) -> list[tuple[str, dict[str, object]]]:
    rows = []
    for database in out.rglob("run.db"):
        folder = database.parent
        try:
            with Run(folder) as run:
                of_run = [{item.name: getattr(row, item.name) for item in fields(row)} for row in run]
        except TagmaskError:  # killed while the folder was made
            continue
        rows += [(_name(out, folder), row) for row in of_run if row["status"] != "todo"]
    return rows


def _without_times(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _without_times(inner) for name, inner in value.items() if name not in TIMES}
    return value


def _name(out: Path, path: Path) -> str:
    return path.relative_to(out).as_posix()


# -- Processes -----------------------------------------------------------------------------------------------


def _filled(command: Sequence[str], folders: Mapping[str, Path], out: Path) -> list[str]:
    return [part.format(**folders, out=out) for part in command]


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def _run_to_end(command: Sequence[str], out: Path | None = None) -> float:
    """Run a command to its end. Returns the seconds until it wrote something into `out`."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        begun = time.monotonic()
        process = _start(command, log)
        if out is not None:
            _wait_for_work(process, out)
        started = time.monotonic() - begun
        if process.wait():
            text = log.read_text(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(command)}\nended with exit code {process.returncode}:\n{text}")
    return started


def _killed(command: Sequence[str], out: Path, *, at_work: bool, seconds: float) -> bool:
    """Start a command and kill it. False if it ended before.

    Args:
        command: what to start.
        out: its folder.
        at_work: count the seconds from when it writes something, not from its start.
        seconds: when to kill it.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = _start(command, Path(folder) / "log")
        if at_work:
            _wait_for_work(process, out)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            # With its workers: they would write on, as no process of a machine without power does.
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def _wait_for_work(process: subprocess.Popen[bytes], out: Path) -> None:
    before = _written(out)
    while process.poll() is None and _written(out) == before:
        time.sleep(0.01)


def _written(out: Path) -> int:
    """Changes when the command writes an image, a row or a checkpoint."""
    written = 0
    for pattern in ("masks/**/*.png", "run.db-wal", "*.jsonl", "*.csv", "*.pt"):
        for file in out.rglob(pattern):
            try:
                written += file.stat().st_mtime_ns
            except FileNotFoundError:
                continue
    return written


# -- Inputs and output ---------------------------------------------------------------------------------------


def draw(photos: Path, data: Path, count: int) -> None:
    """Draw images, some in a folder of their own, and the same as a data set of 21 classes."""
    classes = ["background", *CLASS_NAMES[:20]]
    write_bytes(data / "classes.txt", "".join(f"{name}\n" for name in classes).encode())
    for seed in range(count):
        scene = draw_scene(plan_scene(seed, split="test", count=(1, 3), aspect=SIZE[1] / SIZE[0]), SIZE)
        name = f"sub/{seed:04}.png" if seed % 4 == 0 else f"{seed:04}.png"
        for folder in (photos, data / "images"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray(scene.image).save(folder / name)
        write_bytes(data / "masks" / name, index_png(scene.labels % len(classes)))


def table(reports: Mapping[str, Report]) -> str:
    """Format the reports as one Markdown table."""
    lines = [
        "| command | kills | lost | doubled | made again: done | in work | different | parts left |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = Report()
    for item in fields(Report):
        setattr(total, item.name, sum(getattr(report, item.name) for report in reports.values()))
    for name, r in {**{f"`{name}`": report for name, report in reports.items()}, "all": total}.items():
        values = (r.kills, r.lost, r.doubled, r.made_again, r.in_work, r.different, r.left_over)
        lines.append(f"| {name} | {' | '.join(map(str, values))} |")
    return "\n".join(lines)


def main() -> None:
    """Kill every command and print the table."""
    parser = argparse.ArgumentParser(description="Commands killed at random moments")
    parser.add_argument("--kills", type=int, default=102, help="of all commands together")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", help="names of commands, with commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cases = [case for case in CASES if options.only is None or case.name in options.only.split(",")]
    if not cases:
        raise SystemExit(f"Give --only names of {', '.join(case.name for case in CASES)}.")
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        draw(here / "photos", here / "data", options.images)
        for number, case in enumerate(cases):
            made = here / f"made-{number}"
            scratch = here / f"case-{number}"
            scratch.mkdir()
            folders = {"photos": here / "photos", "data": here / "data", "made": made}
            kills = -(-options.kills // len(cases))
            reports[case.name] = attack(case, folders, scratch, kills, random.Random(options.seed + number))
            print(f"{case.name}: {reports[case.name]}", file=sys.stderr, flush=True)
    print(table(reports))
    raise SystemExit(0 if all(report.faultless for report in reports.values()) else 1)


if __name__ == "__main__":
    main()

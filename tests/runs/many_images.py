"""A run over many images, measured in a process of its own: without the checks of shapes that tests add."""

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path, PurePosixPath

from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import FoundImage

IDENTITY = RunIdentity("tag", {"words": ["cat"]})
DONE, WARM = 2000, 500


def many_images(run: Path, count: int) -> dict[str, float]:
    """Begin a run, do 2,000 images, go on with it and list it: processor seconds, bytes, descriptors."""
    command = [sys.executable, "-m", "tests.runs.many_images", str(run), str(count)]
    root = Path(__file__).parents[2]
    return json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)


def measure(run: Path, count: int) -> dict[str, float]:
    found = [
        FoundImage(Path(f"/p/{i // 100}/{i}.jpg"), PurePosixPath(f"{i // 100}/{i}.jpg")) for i in range(count)
    ]
    measured: dict[str, float] = {}
    start = time.process_time()
    with RunFolder.open(run, IDENTITY) as folder:
        plan = folder.plan(found)
        measured["begin_seconds"] = time.process_time() - start
        for number, image in enumerate(plan):
            if number == WARM:
                tracemalloc.start()
                held, files = tracemalloc.get_traced_memory()[0], descriptors()
            if number == DONE:
                break
            folder.done(image, ImageResult(record={"scores": list(range(80))}))
        measured["grown_bytes"] = tracemalloc.get_traced_memory()[0] - held
        measured["grown_descriptors"] = descriptors() - files
        tracemalloc.stop()
    start = time.process_time()
    with RunFolder.open(run, IDENTITY) as folder:
        measured["again_done"] = folder.plan(found).done
    measured["again_seconds"] = time.process_time() - start
    start = time.process_time()
    with Run(run) as rows:
        measured["listed"] = sum(1 for _ in rows)
    measured["list_seconds"] = time.process_time() - start
    return measured


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))

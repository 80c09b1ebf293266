"""The loop of commands that write run folders."""

import os
from pathlib import Path, PurePosixPath

import torch

from tagmask.cli.runs import run_images
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.planning import ImageTask
from tagmask.runs.rows import ImageResult
from tagmask.runs.stages import Stages
from tagmask.runtime.folders import FoundImage


def test_threads_do_not_depend_on_how_many_images_are_left(tmp_path: Path) -> None:
    """Torch rounds by its threads, and a run that goes on must record what an uninterrupted one does."""
    photos = [tmp_path / f"{i}.png" for i in range(4)]
    for photo in photos:
        photo.write_bytes(b"x")
    used: list[int] = []

    def compute(task: ImageTask, image: None) -> None:
        used.append(torch.get_num_threads())

    def run() -> int:
        stages = Stages(lambda task: None, compute, lambda task, image, computed: ImageResult(tags=[]))
        with RunFolder.open(tmp_path / "run", RunIdentity("tag", {"words": ["cat"]})) as folder:
            plan = folder.plan([FoundImage(photo, PurePosixPath(photo.name)) for photo in photos])
            return run_images(folder, plan, stages, workers=3, show=None).done

    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        assert run() == 4
        os.utime(photos[2], (0, 0))
        assert run() == 1
    finally:
        torch.set_num_threads(before)
    assert used == [2] * 5

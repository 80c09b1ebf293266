"""What whole commands cost, from start to end, and what it takes to load weights of each format.

    python -m benchmarks.start

Random weights of ViT-B/16's size in a temporary folder, one photo, precision auto. CPU seconds are those of
all threads. Every row is the median of several processes. This one imports neither torch nor tagmask, since
Linux counts the peak of a parent as its child's.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

__all__ = ["main"]

WORDS = ("-w", "cat", "-w", "dog")
PHOTO, WEIGHTS = "photo.jpg", "made-up.safetensors"
COMMANDS = {
    "tagmask --help": ("--help",),
    "tagmask weights check": ("weights", "check", WEIGHTS),
    "tagmask mask PHOTO, words in the cache": (
        "mask",
        PHOTO,
        *WORDS,
        "--weights",
        WEIGHTS,
        "-o",
        "run",
        "--again",
    ),
    "tagmask tag PHOTO, words in the cache": ("tag", PHOTO, *WORDS, "--weights", WEIGHTS),
}


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    processor: float
    """Seconds, of all threads."""
    elapsed: float
    """Seconds."""
    peak: float
    """MiB."""

    def cells(self) -> str:
        """The last cells of a table's row."""
        return f"{self.processor:.2f} | {self.elapsed:.2f} | {self.peak:.0f} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="What a start costs")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="processes per row")
    repeats = parser.parse_args().repeats
    with (
        tempfile.TemporaryDirectory() as name,
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
    ):
        folder = Path(name)
        files = pool.apply(write_inputs, (folder,))
        print("| command | CPU s | s | peak MiB |\n|---|---|---|---|")
        for label, arguments in COMMANDS.items():
            if "in the cache" in label:
                first = run(arguments, folder)
                print(f"| {label.replace('in the cache', 'to be encoded')} | {first.cells()}", flush=True)
            print(
                f"| {label} | {middle([run(arguments, folder) for _ in range(repeats)]).cells()}", flush=True
            )
        print("\n| file | MiB | CPU s | s | peak MiB above the start |\n|---|---|---|---|---|")
        for label, file in files.items():
            costs = [pool.apply(load, (file,)) for _ in range(repeats)]
            print(f"| {label} | {size(file) / 2**20:.0f} | {middle(costs).cells()}", flush=True)


def run(arguments: Sequence[str], folder: Path) -> Cost:
    """Run one command, with a cache of its own in the folder."""
    environment = {**os.environ, "TAGMASK_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "tagmask", *arguments]
    start = perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process.stderr:
        messages = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that nothing waits for it again
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{messages.decode()}")
    return Cost(usage.ru_utime + usage.ru_stime, perf_counter() - start, usage.ru_maxrss / 1024)


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each number."""
    return Cost(
        *(
            statistics.median(getattr(cost, field) for cost in costs)
            for field in ("processor", "elapsed", "peak")
        )
    )


def size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())


def load(path: Path) -> Cost:
    """Load weights in float32, and return the peak of the memory above that before."""
    import tagmask
    import tagmask.clip.load
    from benchmarks.process_memory import memory_bytes, reset_peak

    tagmask.load("miniature")
    reset_peak()
    before, start, processor = memory_bytes("VmRSS"), perf_counter(), process_time()
    tagmask.load(path, device="cpu", activation="quickgelu")
    return Cost(process_time() - processor, perf_counter() - start, (memory_bytes("VmHWM") - before) / 2**20)


def write_inputs(folder: Path) -> dict[str, Path]:
    """Write a photo, and the same weights in every format, and return their paths by format."""
    import json
    import warnings

    import torch
    from PIL import Image
    from safetensors.torch import save_file
    from tests.oracles import clip_tree, hugging_face

    from benchmarks.inputs import TEXT, VISION, make_image, make_weights

    Image.fromarray(make_image(375, 500)).save(folder / PHOTO)
    weights = make_weights()
    hub = folder / "hub"
    hub.mkdir()
    save_file(hugging_face.tensors(weights, layers=VISION[0], text_layers=TEXT[0]), hub / "model.safetensors")
    sizes = {name: size for name, size in clip_tree.B16.items() if name not in ("vocab", "context")}
    (hub / "config.json").write_text(json.dumps(hugging_face.config(**sizes, activation="quick_gelu")))
    files = {
        "safetensors": folder / WEIGHTS,
        "torch.save": folder / "made-up.pt",
        "torch.save, older format": folder / "older.pt",
        "torch.save in float16": folder / "half.pt",
        "OpenAI's archive (TorchScript), float16": folder / "script.pt",
        "Hugging Face's folder": hub,
    }
    save_file(weights, files["safetensors"])
    torch.save(weights, files["torch.save"])
    torch.save(weights, files["torch.save, older format"], _use_new_zipfile_serialization=False)
    torch.save({name: tensor.half() for name, tensor in weights.items()}, files["torch.save in float16"])
    tree = clip_tree.ClipTree(**clip_tree.B16)
    tree.load_state_dict(weights, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.script(tree.half()).save(str(files["OpenAI's archive (TorchScript), float16"]))
    return files


if __name__ == "__main__":
    main()

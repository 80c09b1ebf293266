"""`make demo`: draw pictures, tag them, mask them, all into demo/.

The two commands are those that a user types; their output is shown as it comes.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image
from tests.golden import make_images, make_weights

DEMO = Path("demo")
WORDS = ("disc, circle", "box", "ring", "stripes", "sky")
COMMAND = (sys.executable, "-c", "from tagmask.cli.main import main; main()")
"""The `tagmask` command of this interpreter, whether or not its script is on the path."""


def main() -> int:
    """Draw, tag, mask; return the exit code of the first command that fails, else 0."""
    photos, weights = DEMO / "photos", DEMO / "made-up.pt"
    photos.mkdir(parents=True, exist_ok=True)
    draw(photos)
    print(f"Pictures drawn in {photos}, weights made up in {weights}.")
    torch.save(make_weights.make_state_dict(), weights)

    words = [part for word in WORDS for part in ("-w", word)]
    shared = [str(photos), *words, "--weights", str(weights)]
    for arguments in (
        ["tag", *shared, "--out", str(DEMO / "tags.jsonl")],
        ["mask", *shared, "--out", str(DEMO)],
    ):
        failed = run(arguments)
        if failed:
            return failed

    print(
        f"\nOpen {DEMO / 'overlays'} and {DEMO / 'masks'}.\n"
        "The weights are made up, so the answers above mean nothing; with real weights:\n"
        "    tagmask mask photo.jpg -w cat -w dog --weights ViT-B-16.pt --out masks"
    )
    return 0


def draw(folder: Path) -> None:
    """Coloured shapes on gradients, one PNG each."""
    for name, seed, h, w, shapes in make_images.SPECS:
        Image.fromarray(make_images.make(seed, h, w, shapes)).save(folder / name)


def run(arguments: list[str]) -> int:
    """Run `tagmask ARGUMENTS`, its output going where ours goes, and return its exit code."""
    print(f"\n$ tagmask {shlex.join(arguments)}", flush=True)
    # Features of made-up weights do not belong in the user's cache.
    own_cache = {**os.environ, "TAGMASK_HOME": str(DEMO / "cache")}
    return subprocess.run([*COMMAND, *arguments], env=own_cache, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

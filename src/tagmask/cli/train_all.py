"""`tagmask train all`: options in, one call, the student's place out."""

from collections.abc import Sequence
from pathlib import Path

from tagmask.cli.arguments import DEFAULT_WEIGHTS, load_weights
from tagmask.cli.console import report_if_stopped
from tagmask.cli.options import Activation, Precision
from tagmask.cli.train_steps import ConsoleProgress, check_seed_tags, settings_of, student_settings
from tagmask.weak.config_files import with_settings
from tagmask.weak.run_all import RunFolders, RunOptions, run_all
from tagmask.weak.seeds import SeedOptions
from tagmask.weak.steps import PseudoSettings

__all__ = ["train_all"]


def train_all(
    images: Path,
    out: Path,
    seeds: SeedOptions,
    pseudo: PseudoSettings,
    *,
    weights: str | None,
    activation: Activation | None,
    weakclip: str | None,
    student: str | None,
    changes: Sequence[str],
    student_changes: Sequence[str],
    device: str,
    precision: Precision,
) -> int:
    """Do every step that is not done, print where the student is, and return how many images failed.

    The bundled weights have settings of their own, taken where none are named.

    Raises:
        TagmaskError: see `run_all`.
    """
    check_seed_tags(seeds)
    folders, small = RunFolders(out), weights == "miniature"
    clip = weights or DEFAULT_WEIGHTS
    where = f"run.device={device}"
    first = settings_of(
        weakclip or ("weakclip/miniature" if small else "weakclip/voc"),
        {"images": images, "seeds": folders.seeds},
        [where, *changes],
    )
    second = student_settings(
        student or ("student/miniature" if small else "student/small"),
        {"images": images, "seeds": folders.pseudo},
        [where, *student_changes],
        clip,
    )
    options = RunOptions(
        images=images,
        out=out,
        seeds=seeds,
        weakclip=with_settings(first, [f"model.weights={clip}"]),
        student=second,
        pseudo=pseudo,
        device=device,
        precision=precision.value,
    )
    with report_if_stopped(out):
        result = run_all(
            options, lambda: load_weights(weights, activation, device, precision), ConsoleProgress()
        )
    return result.failed

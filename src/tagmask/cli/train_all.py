"""`tagmask train all`: run all training steps."""

from collections.abc import Sequence
from pathlib import Path

from tagmask.cli.arguments import DEFAULT_WEIGHTS, load_weights
from tagmask.cli.options import Activation, Precision
from tagmask.cli.runs import stops_reported
from tagmask.cli.train_steps import ConsoleProgress, check_seed_tags, settings_of, student_settings
from tagmask.weak.config_files import with_settings
from tagmask.weak.run_all import RunFolders, RunOptions, run_all
from tagmask.weak.seeds import SeedOptions
from tagmask.weak.steps import PseudoSettings
from tagmask.weak.validation import Validation

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
    validation: Validation | None,
    device: str,
    precision: Precision,
) -> int:
    """Run all unfinished steps, print the student's path, and return the number of images that failed.

    The miniature weights have their own default settings.

    Raises:
        TagmaskError: see `run_all`.
    """
    check_seed_tags(seeds)
    folders, is_miniature = RunFolders(out), weights == "miniature"
    clip = weights or DEFAULT_WEIGHTS
    device_setting = f"run.device={device}"
    weakclip_config = settings_of(
        weakclip or ("weakclip/miniature" if is_miniature else "weakclip/voc"),
        {"images": images, "seeds": folders.seeds},
        [device_setting, *changes],
    )
    student_config = student_settings(
        student or ("student/miniature" if is_miniature else "student/small"),
        {"images": images, "seeds": folders.pseudo},
        [device_setting, *student_changes],
        clip,
    )
    options = RunOptions(
        images=images,
        out=out,
        seeds=seeds,
        weakclip=with_settings(weakclip_config, [f"model.weights={clip}"]),
        student=student_config,
        pseudo=pseudo,
        validation=validation,
        device=device,
        precision=precision.value,
    )
    with stops_reported(out):
        result = run_all(
            options, lambda: load_weights(weights, activation, device, precision), ConsoleProgress()
        )
    return result.failed

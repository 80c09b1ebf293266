"""`tagmask train all`: run all training steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmask.cli.arguments import load_weights
from tagmask.cli.options import Activation, Precision
from tagmask.cli.runs import stops_reported
from tagmask.cli.train_mctformer import mctformer_settings
from tagmask.cli.train_steps import ConsoleProgress, check_seed_tags, settings_of, student_settings
from tagmask.clip.sources import DEFAULT_WEIGHTS
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import with_settings
from tagmask.weak.run_all import RunFolders, RunOptions, run_all
from tagmask.weak.seed_options import SeedOptions
from tagmask.weak.steps import PseudoSettings
from tagmask.weak.validation import Validation

__all__ = ["MctFormerChoice", "train_all"]


@dataclass(frozen=True)
class MctFormerChoice:
    """Settings of the MCTformer that makes the seeds."""

    config: str | None
    """Name or file; None: by the weights."""
    changes: Sequence[str]
    """Each KEY=VALUE."""


def train_all(
    images: Path,
    out: Path,
    seeds: SeedOptions,
    pseudo: PseudoSettings,
    *,
    mctformer: MctFormerChoice | None,
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
    mctformer_config: TrainConfig | None = None
    if mctformer is not None:
        source = mctformer.config or ("mctformer/miniature" if is_miniature else "mctformer/v2")
        changes = [device_setting, *mctformer.changes]
        mctformer_config = mctformer_settings(source, images, seeds.tags_file, seeds.words, None, changes)
    options = RunOptions(
        images=images,
        out=out,
        seeds=seeds,
        weakclip=with_settings(weakclip_config, [f"model.weights={clip}"]),
        student=student_config,
        pseudo=pseudo,
        mctformer=mctformer_config,
        validation=validation,
        device=device,
        precision=precision.value,
    )
    with stops_reported(out):
        result = run_all(
            options, lambda: load_weights(weights, activation, device, precision), ConsoleProgress()
        )
    return result.failed

"""Train the miniature CLIP: `make miniature`.

Two stages on images and captions, each resumable, and a file in OpenAI's key layout. Masks are never used.
"""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from tagmask.clip.load import OPENAI_MEAN, OPENAI_STD
from tagmask.files import write_bytes
from tagmask.miniature.captions import known_words
from tagmask.miniature.scenes import BACKGROUND_NAMES
from tagmask.miniature.training import first_stage, second_stage
from tagmask.miniature.training.bank import open_bank
from tagmask.miniature.training.first_stage import FirstStage, pretrain_text_tower
from tagmask.miniature.training.progress import Progress, begin, train_until_done
from tagmask.miniature.training.second_stage import SecondStage
from tagmask.miniature.training.towers import ACTIVATION, Towers

__all__ = ["Settings", "train", "write_weights"]

logger = logging.getLogger("tagmask")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a training run."""

    wide: int = 30_000
    """Number of whole scenes in the bank."""
    close: int = 90_000
    """Number of close-ups in the bank."""
    first: FirstStage = field(default_factory=FirstStage)
    second: SecondStage = field(default_factory=SecondStage)
    second_share: float = 0.5
    """Share of the second stage's weights in the result, the rest the first stage's. The mean keeps more of
    both than either has (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022)."""


def train(folder: Path, settings: Settings, start: Path | None = None) -> dict[str, Tensor]:
    """Train both stages; each resumes from its checkpoint in `folder` if there is one.

    Args:
        folder: holds the drawn images and the checkpoints.
        settings: of both stages.
        start: weights after the first stage, which is then not run.

    Returns:
        The weights, by the names of `Towers`: the mean of both stages'.
    """
    bank = open_bank(folder / "bank", settings.wide, settings.close)
    if start is None:
        model = Towers()
        model.start(torch.Generator().manual_seed(settings.first.seed))
        run = begin(model, settings.first)
        checkpoint = folder / "first.pt"
        if not _resumed(run, checkpoint, settings.first):
            logger.info("Text tower pretrained: loss %.3f.", pretrain_text_tower(model, bank, settings.first))
            run.averaged = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        train_until_done(run, checkpoint, settings.first, first_stage.gradients(model, bank, settings.first))
        state = run.averaged
    else:
        state = Towers().from_tensors(safetensors.torch.load_file(start))
    model = Towers()
    model.load_state_dict(state)
    run = begin(model, settings.second)
    checkpoint = folder / "second.pt"
    _resumed(run, checkpoint, settings.second)
    train_until_done(run, checkpoint, settings.second, second_stage.gradients(model, bank, settings.second))
    return {name: tensor.lerp(run.averaged[name], settings.second_share) for name, tensor in state.items()}


def _resumed(run: Progress, checkpoint: Path, settings: FirstStage | SecondStage) -> bool:
    if not checkpoint.is_file():
        return False
    run.restore(checkpoint, settings)
    logger.info("Resuming %s at step %d, %.1f minutes.", checkpoint.name, run.step, run.seconds / 60)
    return True


def write_weights(weights: Mapping[str, Tensor], out: Path) -> None:
    """Write weights in float16, with the metadata that `tagmask.load` reads."""
    model = Towers()
    model.load_state_dict(weights)
    metadata = {
        "activation": ACTIVATION,
        "mean": ", ".join(map(str, OPENAI_MEAN)),
        "std": ", ".join(map(str, OPENAI_STD)),
        "words": "\n".join(known_words()),
        "background": "\n".join(BACKGROUND_NAMES),
    }
    half = {name: tensor.half().contiguous() for name, tensor in model.tensors().items()}
    write_bytes(out, safetensors.torch.save(half, metadata))


def main() -> None:
    """Train from the command line and write the weights."""
    parser = argparse.ArgumentParser(description="Train the miniature CLIP.")
    parser.add_argument("folder", type=Path, help="folder of the drawn images and the checkpoints")
    parser.add_argument("out", type=Path, help="weights file to write")
    parser.add_argument("--start", type=Path, help="weights after the first stage, which is then not run")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_weights(train(arguments.folder, Settings(), arguments.start), arguments.out)


if __name__ == "__main__":
    main()

"""What --proposals means: files, or a SAM."""

from pathlib import Path

from tagmask.clip.download import Progress
from tagmask.errors import InputError
from tagmask.proposals.files import open_proposals
from tagmask.proposals.source import ProposalSource

__all__ = ["proposal_source"]

_PREFIXES = ("sam2:", "sam:")


def proposal_source(text: str, device: str = "auto", progress: Progress | None = None) -> ProposalSource:
    """Open a source of region proposals.

    Args:
        text: a folder, a COCO file, or `sam2:MODEL` or `sam:MODEL` with a folder or a name on the Hugging
            Face hub. What the model is, SAM or SAM 2, its config says.
        device: for a SAM: "auto" or a torch device name.
        progress: called as bytes of a SAM arrive.

    Raises:
        InputError: there is no such folder or file, or a package is missing.
        WeightsError: there is no such model, or it is of another kind.
    """
    prefix = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None)
    if prefix is None:
        return open_proposals(Path(text).expanduser())
    model = text.removeprefix(prefix)
    if not model:
        raise InputError(f"--proposals {prefix} names no model. Give a folder, or a name such as OWNER/REPO.")
    from tagmask.proposals.sam import SamProposals

    return SamProposals(model, device=device, progress=progress)

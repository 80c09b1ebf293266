"""Write masks for PASCAL VOC's evaluation server, and say where they are."""

from tagmask.bench.folder_scores import MaskFiles, submitted
from tagmask.bench.submission import Submission
from tagmask.cli.console import message, print_path
from tagmask.data.sample import Dataset

__all__ = ["write_submission"]


def write_submission(submission: Submission, found: MaskFiles, dataset: Dataset) -> None:
    """Write the archive and print its path.

    Raises:
        InputError: a mask is missing or refused.
        OutputError: the file cannot be written.
    """
    count = submission.write(submitted(found, dataset))
    message(f"{count} masks in {submission.folder}, to be sent to PASCAL VOC's evaluation server")
    print_path(submission.file)

"""Find the folder of a SAM: a local one, or one in the Hugging Face hub's cache, downloaded if needed."""

from pathlib import Path
from typing import Final

from tagmask.clip.download import Progress
from tagmask.clip.hub import hub_cache, offline_variable, split_revision
from tagmask.clip.hub_repository import HubRepository
from tagmask.clip.web import TransferError
from tagmask.errors import DownloadError, WeightsError
from tagmask.printable import shortened

__all__ = ["CONFIG", "model_folder", "weight_files"]

CONFIG: Final = "config.json"
_WEIGHTS: Final = ".safetensors"


def model_folder(model: str, progress: Progress | None = None) -> Path:
    """Return the folder of a model.

    Args:
        model: a folder, or OWNER/REPO or OWNER/REPO@REVISION on the hub.
        progress: called as bytes arrive.

    Raises:
        WeightsError: a folder without a config or weights in safetensors.
        InputError: neither a folder nor a name.
        DownloadError: it is not in the cache and cannot be downloaded.
    """
    path = Path(model).expanduser()
    if not path.is_dir():
        path = _from_hub(model, progress)
    if not (path / CONFIG).is_file() or not weight_files(path):
        raise WeightsError(f"{path} has no {CONFIG} or no {_WEIGHTS}. Give the folder of a SAM or SAM 2.")
    return path


def weight_files(folder: Path) -> list[Path]:
    """Return the weights in a folder, by name."""
    return sorted(folder.glob(f"*{_WEIGHTS}"))


def _from_hub(model: str, progress: Progress | None) -> Path:
    from huggingface_hub import try_to_load_from_cache

    repo, revision = split_revision(model)
    config = try_to_load_from_cache(repo, CONFIG, cache_dir=hub_cache(), revision=revision)
    if isinstance(config, str) and weight_files(Path(config).parent):
        return Path(config).parent
    problem = f"There is no folder {model}, and the cache of the Hugging Face hub has no {repo}."
    if (variable := offline_variable()) is not None:
        raise DownloadError(problem, advice=f"{variable} forbids to download it: give a folder, or unset it.")
    try:
        remote = HubRepository.find(repo, revision)
        weights = sorted(name for name in remote.names if name.endswith(_WEIGHTS) and "/" not in name)
        if CONFIG not in remote.names or not weights:
            raise WeightsError(f"{repo} has no {CONFIG} or no {_WEIGHTS}. Give a SAM or SAM 2.")
        folder = remote.get_config(CONFIG).parent
        for name in weights:
            remote.get_weights(name, progress)
        for name in remote.names & {f"model{_WEIGHTS}.index.json"}:
            remote.get_config(name)
        remote.finish()
    except TransferError as error:
        raise DownloadError(problem, f"It cannot be downloaded: {shortened(error, 200)}.") from error
    return folder

"""What this machine offers: versions, hardware, caches, weights. Looks, and changes nothing."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from tagmask import __version__
from tagmask.clip.hardware import choose_device, explain_precision
from tagmask.clip.hub import cached_folder, hub_cache, is_offline
from tagmask.clip.names import KNOWN
from tagmask.clip.sources import BUNDLED, cached, clip_cache
from tagmask.errors import InputError, TagmaskError, WeightsError
from tagmask.files import cache_dir

__all__ = ["Finding", "survey"]

_PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "tokenizers",
    "ftfy",
    "huggingface-hub",
    "typer",
    "rich",
)


@dataclass(frozen=True)
class Finding:
    """One line of what was found."""

    topic: str
    """Heading it belongs under."""
    what: str
    value: str
    good: bool = True
    """False where something is missing that the user may want."""


def survey(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Everything worth knowing before the first run, and for a report of a fault."""
    yield from _versions()
    yield from _hardware()
    yield from _caches()
    yield from _weights(environ)


def _versions() -> Iterator[Finding]:
    yield Finding("Versions", "tagmask", __version__)
    yield Finding("Versions", "python", f"{platform.python_version()} ({sys.executable})")
    for name in _PACKAGES:
        try:
            yield Finding("Versions", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding("Versions", name, "not installed", good=False)


def _hardware() -> Iterator[Finding]:
    yield Finding("Hardware", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("Hardware", "processor", f"{_processor()}, {cores} cores for this process")
    yield Finding("Hardware", "threads", f"{torch.get_num_threads()} (OMP_NUM_THREADS changes that)")
    for index in range(torch.cuda.device_count()):
        gigabytes = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Finding(
            "Hardware", f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {gigabytes:.0f} GiB"
        )
    device = choose_device("auto")
    precision, reason = explain_precision(device)
    yield Finding("Hardware", "--device auto", str(device))
    yield Finding("Hardware", "--precision auto", f"{precision}: {reason}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or "unknown"


def _caches() -> Iterator[Finding]:
    try:
        folder = cache_dir()
    except InputError as error:
        yield Finding("Caches", "text features", str(error), good=False)
        return
    files = [f for f in (folder / "text").glob("*.npy") if f.is_file()] if folder.is_dir() else []
    size = sum(f.stat().st_size for f in files) / 1e6
    writable = os.access(_nearest(folder), os.W_OK)
    yield Finding(
        "Caches",
        "text features",
        f"{folder / 'text'}: {len(files)} words, {size:.1f} MB"
        + ("" if writable else "; cannot be written, so every word is encoded anew"),
        good=writable,
    )


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next((p for p in (folder, *folder.parents) if p.exists()), folder)


def _weights(environ: Mapping[str, str]) -> Iterator[Finding]:
    chosen = environ.get("TAGMASK_WEIGHTS")
    if chosen:
        there = _is_there(chosen)
        yield Finding("Weights", "TAGMASK_WEIGHTS", chosen + ("" if there else " (not there)"), good=there)
    else:
        yield Finding("Weights", "TAGMASK_WEIGHTS", "not set")
    try:
        openai = clip_cache()
        found = sorted(openai.glob("*.pt")) if openai.is_dir() else []
    except WeightsError:
        openai, found = Path("~/.cache/clip"), []
    for file in found:
        yield Finding("Weights", "OpenAI's cache", f"{file} ({file.stat().st_size / 1e6:.0f} MB)")
    hub = list(_in_hub_cache())
    if not found:
        yield Finding(
            "Weights",
            "OpenAI's cache",
            f"no .pt file in {openai}; ViT-B-16.pt there is used where no --weights is given",
            good=bool(chosen or hub),
        )
    yield from hub
    offline = "HF_HUB_OFFLINE is set: nothing is downloaded" if is_offline(environ) else "allowed for names"
    yield Finding("Weights", "downloads", offline)
    yield Finding(
        "Weights",
        "miniature",
        "in the package; knows the drawn world only" if BUNDLED.is_file() else f"missing: {BUNDLED}",
        good=BUNDLED.is_file(),
    )


def _is_there(weights: str) -> bool:
    try:
        source = cached(weights)
    except TagmaskError:
        return False
    return source is not None and source.path.exists()


def _in_hub_cache() -> Iterator[Finding]:
    """Known names whose weights lie in the hub's cache."""
    try:
        if not hub_cache().is_dir():
            return
    except InputError:
        return
    for entry in KNOWN.values():
        for repo in entry.repos:
            try:
                folder = cached_folder(repo)
            except WeightsError as error:
                yield Finding("Weights", "the hub's cache", f"{repo}: {error}", good=False)
                continue
            if folder is not None:
                yield Finding("Weights", "the hub's cache", f"{entry.name}: {folder}")

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

__all__ = ["Diagnostic", "diagnose"]

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
class Diagnostic:
    """One line of what was found."""

    topic: str
    """Heading it belongs under."""
    what: str
    value: str
    good: bool = True
    """False where something is missing that the user may want."""


def diagnose(environ: Mapping[str, str] = os.environ) -> Iterator[Diagnostic]:
    """Everything worth knowing before the first run, and for a report of a fault."""
    yield from _versions()
    yield from _hardware()
    yield from _caches()
    yield from _weights(environ)


def _versions() -> Iterator[Diagnostic]:
    yield Diagnostic("Versions", "tagmask", __version__)
    yield Diagnostic("Versions", "python", f"{platform.python_version()} ({sys.executable})")
    for name in _PACKAGES:
        try:
            yield Diagnostic("Versions", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Diagnostic("Versions", name, "not installed", good=False)


def _hardware() -> Iterator[Diagnostic]:
    yield Diagnostic("Hardware", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Diagnostic("Hardware", "processor", f"{_processor()}, {cores} cores for this process")
    yield Diagnostic("Hardware", "threads", f"{torch.get_num_threads()} (OMP_NUM_THREADS changes that)")
    for index in range(torch.cuda.device_count()):
        gigabytes = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Diagnostic(
            "Hardware", f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {gigabytes:.0f} GiB"
        )
    device = choose_device("auto")
    precision, reason = explain_precision(device)
    yield Diagnostic("Hardware", "--device auto", str(device))
    yield Diagnostic("Hardware", "--precision auto", f"{precision}: {reason}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or "unknown"


def _caches() -> Iterator[Diagnostic]:
    try:
        folder = cache_dir()
    except InputError as error:
        yield Diagnostic("Caches", "text features", str(error), good=False)
        return
    files = [f for f in (folder / "text").glob("*.npy") if f.is_file()] if folder.is_dir() else []
    size = sum(f.stat().st_size for f in files) / 1e6
    writable = os.access(_nearest(folder), os.W_OK)
    yield Diagnostic(
        "Caches",
        "text features",
        f"{folder / 'text'}: {len(files)} words, {size:.1f} MB"
        + ("" if writable else "; cannot be written, so every word is encoded anew"),
        good=writable,
    )


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next((p for p in (folder, *folder.parents) if p.exists()), folder)


def _weights(environ: Mapping[str, str]) -> Iterator[Diagnostic]:
    chosen = environ.get("TAGMASK_WEIGHTS")
    if chosen:
        there = _is_there(chosen)
        yield Diagnostic("Weights", "TAGMASK_WEIGHTS", chosen + ("" if there else " (not there)"), good=there)
    else:
        yield Diagnostic("Weights", "TAGMASK_WEIGHTS", "not set")
    try:
        openai = clip_cache()
        found = sorted(openai.glob("*.pt")) if openai.is_dir() else []
    except WeightsError:
        openai, found = Path("~/.cache/clip"), []
    for file in found:
        yield Diagnostic("Weights", "OpenAI's cache", f"{file} ({file.stat().st_size / 1e6:.0f} MB)")
    hub = list(_in_hub_cache())
    if not found:
        yield Diagnostic(
            "Weights",
            "OpenAI's cache",
            f"no .pt file in {openai}; ViT-B-16.pt there is used where no --weights is given",
            good=bool(chosen or hub),
        )
    yield from hub
    offline = "HF_HUB_OFFLINE is set: nothing is downloaded" if is_offline(environ) else "allowed for names"
    yield Diagnostic("Weights", "downloads", offline)
    yield Diagnostic(
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


def _in_hub_cache() -> Iterator[Diagnostic]:
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
                yield Diagnostic("Weights", "the hub's cache", f"{repo}: {error}", good=False)
                continue
            if folder is not None:
                yield Diagnostic("Weights", "the hub's cache", f"{entry.name}: {folder}")

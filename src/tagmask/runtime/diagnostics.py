"""Report versions, hardware, caches and weights of this machine, without changing anything."""

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
from tagmask.clip.hub import cached_folder, hub_cache, offline_variable
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
    """One line of the report."""

    topic: str
    """The heading above the line."""
    what: str
    value: str
    good: bool = True
    """False if something is missing that the user may need."""


def diagnose(environ: Mapping[str, str] = os.environ) -> Iterator[Diagnostic]:
    """Report what is useful before the first run and in a bug report."""
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
    yield Diagnostic("Hardware", "threads", f"{torch.get_num_threads()} (set OMP_NUM_THREADS to change it)")
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
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def _caches() -> Iterator[Diagnostic]:
    try:
        folder = cache_dir()
    except InputError as error:
        yield Diagnostic("Caches", "text features", str(error), good=False)
        return
    files = [f for f in (folder / "text").glob("*.npy") if f.is_file()] if folder.is_dir() else []
    size = sum(f.stat().st_size for f in files) / 1e6
    writable = os.access(_existing_ancestor(folder), os.W_OK)
    yield Diagnostic(
        "Caches",
        "text features",
        f"{folder / 'text'}: {len(files)} words, {size:.1f} MB"
        + ("" if writable else "; not writable, so all words are encoded again on every run"),
        good=writable,
    )


def _existing_ancestor(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next((p for p in (folder, *folder.parents) if p.exists()), folder)


def _weights(environ: Mapping[str, str]) -> Iterator[Diagnostic]:
    chosen = environ.get("TAGMASK_WEIGHTS")
    if chosen:
        exists = _exists(chosen)
        yield Diagnostic(
            "Weights", "TAGMASK_WEIGHTS", chosen + ("" if exists else " (not found)"), good=exists
        )
    else:
        yield Diagnostic("Weights", "TAGMASK_WEIGHTS", "not set")
    try:
        openai = clip_cache()
        files = sorted(openai.glob("*.pt")) if openai.is_dir() else []
    except WeightsError:
        openai, files = Path("~/.cache/clip"), []
    for file in files:
        yield Diagnostic("Weights", "OpenAI's cache", f"{file} ({file.stat().st_size / 1e6:.0f} MB)")
    hub = list(_in_hub_cache())
    if not files:
        yield Diagnostic(
            "Weights",
            "OpenAI's cache",
            f"no .pt file in {openai}; a ViT-B-16.pt there is the default for --weights",
            good=bool(chosen or hub),
        )
    yield from hub
    variable = offline_variable(environ)
    downloads = f"none: {variable} is set" if variable else "allowed for names"
    yield Diagnostic("Weights", "downloads", downloads)
    yield Diagnostic(
        "Weights",
        "miniature",
        "bundled; trained on drawn scenes only" if BUNDLED.is_file() else f"missing: {BUNDLED}",
        good=BUNDLED.is_file(),
    )


def _exists(weights: str) -> bool:
    try:
        source = cached(weights)
    except TagmaskError:
        return False
    return source is not None and source.path.exists()


def _in_hub_cache() -> Iterator[Diagnostic]:
    """Report the known weights in the hub's cache."""
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
                yield Diagnostic("Weights", "the hub's cache", f"{repo}: {error.in_one_line}", good=False)
                continue
            if folder is not None:
                yield Diagnostic("Weights", "the hub's cache", f"{entry.name}: {folder}")

"""What `tagmask train all` does: every step in a folder of its own, none done twice, then a page."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import typer

from tagmask import __version__
from tagmask.cli.inputs import DEFAULT_WEIGHTS, load_weights
from tagmask.cli.options import Activation, Precision
from tagmask.cli.talk import bold, said_if_stopped, say
from tagmask.cli.training_steps import (
    SeedOptions,
    make_pseudo,
    make_seeds,
    run_student,
    run_weakclip,
    settings_of,
)
from tagmask.errors import InputError
from tagmask.files import file_hash, write_bytes
from tagmask.runtime.folders import FoundImage, find_images
from tagmask.weak.export import check_onnx, export_onnx
from tagmask.weak.loop import MODEL_FILE
from tagmask.weak.stages import stage_opened
from tagmask.weak.steps import PseudoSettings
from tagmask.weak.students.checkpoint import load_student
from tagmask.weak.students.run import Student
from tagmask.weak.summary import run_page

__all__ = ["AllOptions", "train_all"]


@dataclass(frozen=True)
class AllOptions:
    """What each step is told."""

    seeds: SeedOptions
    weights: str | None
    activation: Activation | None
    weakclip: str | None
    """Settings of WeakCLIP; None: those that suit the weights."""
    student: str | None
    """Settings of the student; None: those that suit the weights."""
    changes: tuple[str, ...]
    student_changes: tuple[str, ...]
    pseudo: PseudoSettings
    device: str
    precision: Precision

    @property
    def small(self) -> bool:
        """The bundled weights have settings of their own."""
        return self.weights == "miniature"


@dataclass
class _Clock:
    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, number: int, name: str) -> Iterator[None]:
        say(bold(f"{number} of {_STEPS}: {name}"))
        began = time.monotonic()
        yield
        self.spent[name] = time.monotonic() - began


_STEPS = 6


def train_all(images: Path, out: Path, options: AllOptions) -> int:
    """Do every step that is not done, print where the student is, and return how many pictures failed.

    Raises:
        TagmaskError: of the step that cannot be done; what was done before is kept.
    """
    if not images.is_dir():
        raise InputError(f"{images} is no folder; give the folder that holds the pictures")
    found = _not_ours(find_images([images]), out)
    clock = _Clock()
    # read before anything is made, so that a mistyped setting costs no time
    first, second = _configs(options)
    settings_of(first, {}, options.changes)
    settings_of(second, {}, options.student_changes)
    seeds, weak, masks, student = (out / name for name in ("seeds", "weakclip", "pseudo", "student"))
    with said_if_stopped(out):
        with clock.step(1, "seeds"):
            failed = make_seeds(
                found,
                seeds,
                options.seeds,
                lambda: load_weights(options.weights, options.activation, options.device, options.precision),
            )
        where = [f"device={options.device}"]
        with clock.step(2, "WeakCLIP"):
            weights = options.weights or DEFAULT_WEIGHTS
            run_weakclip(first, weak, {"images": images, "seeds": seeds}, weights, [*where, *options.changes])
        with clock.step(3, "pseudo-masks"):
            make_pseudo(
                found,
                weak,
                masks,
                options.pseudo,
                tags_file=options.seeds.tags_file,
                device=options.device,
                precision=options.precision.value,
            )
        with clock.step(4, "student"):
            places = {"images": images, "seeds": masks}
            run_student(second, student, places, [*where, *options.student_changes], weights)
        with clock.step(5, "export"):
            _exported(student, out / "export")
        with clock.step(6, "report"):
            _reported(found, out, options, clock)
    return failed


def _configs(options: AllOptions) -> tuple[str, str]:
    weakclip = options.weakclip or ("weakclip/miniature" if options.small else "weakclip/voc")
    return weakclip, options.student or ("student/miniature" if options.small else "student/small")


def _not_ours(images: list[FoundImage], out: Path) -> list[FoundImage]:
    """Refuse an --out among the pictures, where masks would be taken for pictures."""
    inside = out.resolve()
    if any(inside in image.path.resolve().parents for image in images):
        raise InputError(f"{out} lies among the pictures; choose an --out outside their folder")
    return images


def _exported(student: Path, folder: Path) -> None:
    """ONNX, where its packages are installed; the student's own file serves without."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        say(
            f"not exported: {', '.join(missing)} is not installed (pip install 'tagmask[export]', then "
            f"tagmask export {student / MODEL_FILE} student.onnx)"
        )
        return
    file = folder / "student.onnx"
    with stage_opened(folder, "export", {"student": file_hash(student / MODEL_FILE)}, {}) as stage:
        if not stage.finished:
            trained = load_student(student / MODEL_FILE)
            export_onnx(trained, file)
            stage.finish(difference=check_onnx(file, trained))
    typer.echo(str(file))


def _reported(images: list[FoundImage], out: Path, options: AllOptions, clock: _Clock) -> None:
    student = Student.load(out / "student" / MODEL_FILE, device=options.device)
    page = run_page(
        images,
        {"seeds": out / "seeds", "pseudo-masks": out / "pseudo"},
        {"WeakCLIP": out / "weakclip", "student": out / "student"},
        student,
        {
            "Words": ", ".join(student.words),
            "Pictures": str(len(images)),
            "Weights": options.weights or DEFAULT_WEIGHTS,
            "Student": student.trained.card.student,
            "Time": ", ".join(f"{name} {spent:.0f} s" for name, spent in clock.spent.items()),
            "Version": f"tagmask {__version__}",
        },
    )
    write_bytes(out / "report.html", page.encode())
    typer.echo(str(out / "report.html"))

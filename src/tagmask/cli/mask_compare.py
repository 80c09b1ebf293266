"""`tagmask mask --compare`: draw several methods side by side, a picture per image."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import PIL.Image
import typer

from tagmask import __version__
from tagmask.api import Segmenter
from tagmask.catalogue import method as method_called
from tagmask.cli.console import bold, message, report_failure, with_progress
from tagmask.cli.runs import stops_reported
from tagmask.clip.load import Clip
from tagmask.errors import InputError, OutputError, TagmaskError
from tagmask.files import ensure_folder, write_bytes
from tagmask.images import read_image
from tagmask.printable import printable
from tagmask.report.methods import method_sheet
from tagmask.resolve import mask_recipe, with_method
from tagmask.results import Segmentation
from tagmask.runs.ownership import COMPARISONS, COMPARISONS_FILE, leave_out_outputs
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.runtime.tag_files import check_tags, tags_of
from tagmask.settings.recipes import MaskRecipe
from tagmask.strict_json import json_text
from tagmask.types import Image

__all__ = ["Comparer", "check_recipes", "compare_images", "compared_methods"]

_QUALITY = 90
_MARK = "tagmask compare"


def compared_methods(text: str, run_options: Mapping[str, object] = MappingProxyType({})) -> tuple[str, ...]:
    """Parse --compare: names of mask methods, each once, in order.

    Args:
        text: names, separated by commas.
        run_options: whether each option of a run, which --compare does not make, is given; by its name.

    Raises:
        InputError: a method is unknown, there are fewer than two, or an option of a run is given.

    Example:
        >>> compared_methods("clip, sclip")
        ('clip', 'sclip')
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        method_called(name, "masks")
    if len(names) < 2:
        raise InputError(f"--compare {text!r} is fewer than two methods. Give two or more, as in clip,sclip.")
    for name, given in run_options.items():
        if given:
            raise InputError(
                f"--compare and {name} exclude each other: --compare draws pictures and makes no run. "
                "Give only one."
            )
    return names


class Comparer:
    """Masks an image by several methods; those that compare words with pixels share one forward pass.

    Args:
        clip: the frozen model.
        methods: names of mask methods.
        words: as for `Segmenter`; None for the recipe's.
        recipe: its settings, which all methods use; None for those for own words.
        background: as for `Segmenter`.
        as_: as for `Segmenter`.
        settings: recipe fields for all methods.

    Raises:
        InputError: a method does not take a setting or does not fit the weights.
    """

    def __init__(
        self,
        clip: Clip,
        methods: Sequence[str],
        words: Sequence[str] | None,
        recipe: str | None,
        background: Sequence[str] | None,
        as_: str | None,
        settings: Mapping[str, object],
    ) -> None:
        self.methods = tuple(methods)

        def segmenter(name: str) -> Segmenter:
            changed = {**settings, "method": name}
            return Segmenter(
                clip, words, recipe=recipe, background=background, as_=as_, head=None, engine=None, **changed
            )

        self._dense = [name for name in methods if method_called(name, "masks").kind == "dense"]
        self._alone = {name: segmenter(name) for name in methods if name not in self._dense}
        self._base = segmenter(self._dense[0]) if self._dense else None
        for name in self._dense[1:]:
            base = self._base.recipe if self._base is not None else None
            check = method_called(name, "masks").check
            if check is not None and isinstance(base, MaskRecipe):
                check(with_method(base, name).variant, clip.vision)

    def __call__(self, image: Image, tags: Sequence[int] | None) -> dict[str, Segmentation]:
        """Mask one upright image; by the method's name, in the order given."""
        found = {name: segmenter(image, tags=tags) for name, segmenter in self._alone.items()}
        if self._base is not None:
            found |= self._base.compare(image, self._dense, tags=tags)
        return {name: found[name] for name in self.methods}


def check_recipes(
    methods: Sequence[str],
    words: Sequence[str] | None,
    recipe: str | None,
    background: Sequence[str] | None,
    as_: str | None,
    settings: Mapping[str, object],
    *,
    tags_given: bool,
) -> int:
    """Resolve every method's recipe, before any weights are loaded. Returns the number of words.

    Raises:
        InputError: a method does not take a setting, or needs tags that are not given.
    """
    count = 0
    for name in methods:
        resolved = mask_recipe(recipe, words, background, as_, {**settings, "method": name})
        if resolved.needs_tags and not tags_given:
            raise InputError(f"Method {name} needs the tags of each image. Give --tags-file FILE.")
        count = len(resolved.words)
    return count


def compare_images(
    images: list[FoundImage],
    make_comparer: Callable[[], Comparer],
    *,
    out: Path,
    tags: Mapping[str, tuple[int, ...]] | None,
    about: Mapping[str, object],
) -> int:
    """Draw a picture of every image into `out`/compare, and return how many have failed.

    Pictures of an earlier comparison are replaced. A run in `out` is not touched.

    Args:
        images: as `find_images` returns them.
        make_comparer: loads the weights; called after the cheap checks.
        out: the output folder.
        tags: the classes to mask, as `read_tags` returns them; None: all, or those that a method finds.
        about: what the pictures show, for compare.json.

    Raises:
        InputError: the folder holds files that tagmask did not write, or an image is in the way.
        OutputError: the folder cannot be written.
    """
    images = leave_out_outputs(images, out)
    folder = out / COMPARISONS
    _check_ours(folder)
    if tags is not None:
        check_tags(images, tags)
    comparer = make_comparer()
    ensure_folder(folder)
    record = {"what": _MARK, "tagmask": __version__, "methods": list(comparer.methods), **about}
    write_bytes(folder / COMPARISONS_FILE, (json_text(record, indent=2, ensure_ascii=False) + "\n").encode())
    failures: list[FoundImage] = []
    tasks = list(zip(images, output_names(images), strict=True))
    with stops_reported(out, "run the same command to draw all again"):
        for found, name in with_progress(tasks, len(tasks), failures=lambda: len(failures)):
            try:
                pixels = read_image(found.path)
                segmentations = comparer(pixels, None if tags is None else tags_of(found, tags))
            except OutputError:
                raise
            except TagmaskError as error:
                failures.append(found)
                report_failure(found.path, str(error))
                continue
            target = folder / f"{name}.jpg"
            ensure_folder(target.parent)
            write_bytes(target, _jpeg(method_sheet(pixels, segmentations)))
            _show(found.path, target, segmentations)
    if len(images) > 1 or failures:
        drawn = len(images) - len(failures)
        message(f"{drawn} of {len(images)} images drawn. The pictures are in {folder}.")
    return len(failures)


def _check_ours(folder: Path) -> None:
    """Refuse a folder that an earlier comparison did not write."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is in the way: it is no folder. Choose another --out, or move it away.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        ours = json.loads((folder / COMPARISONS_FILE).read_bytes()).get("what") == _MARK
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise InputError(
            f"{folder} is in the way: it was not written by --compare, and is never overwritten. "
            "Choose another --out, or move it away."
        )


def _jpeg(picture: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _show(path: Path, target: Path, segmentations: Mapping[str, Segmentation]) -> None:
    typer.echo(f"{bold(str(path))} -> {printable(str(target))}")
    width = max(map(len, segmentations))
    for name, segmentation in segmentations.items():
        shares = (f"{printable(word)} {share:.1%}" for word, share in segmentation.shares().items())
        typer.echo(f"  {name:<{width}}  {', '.join(shares) or 'nothing'}")

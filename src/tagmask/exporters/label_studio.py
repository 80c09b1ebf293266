"""Write masks as pre-annotations for Label Studio: tasks with brush masks and tags, and the labelling setup.

Label Studio shows images by address. Unless a prefix is given, that is its address for local files, whose
folder it must be allowed to serve.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from tagmask.errors import InputError
from tagmask.exporters.export import Export, ExportedImage
from tagmask.exporters.targets import new_folder
from tagmask.masks import overlay_colours
from tagmask.printable import short_repr
from tagmask.regions.run_lengths import region_brush_rle
from tagmask.strict_json import json_text

__all__ = ["LOCAL_FILES", "write_label_studio"]

LOCAL_FILES = "/data/local-files/?d="
"""Label Studio's address of a file below the folder LOCAL_FILES_DOCUMENT_ROOT, which is / unless set."""

_IMAGE, _MASK, _TAGS = "image", "mask", "tags"
"""Names of the parts of the labelling setup."""
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_label_studio(export: Export, target: Path) -> None:
    """Write `tasks.json` and `labeling_config.xml`, and the photos in `images` if they are to be copied.

    Each task has one prediction: a brush mask per region, and the tags as choices. `file_name` of its data is
    the image's name in the run.

    Args:
        export: what to export.
        target: the folder to write.

    Raises:
        InputError: the run has no masks, a word cannot stand in XML, a photo is gone or has changed, or
            something is in the way.
        OutputError: a file cannot be written.
    """
    setup = _setup(export)
    version = f"tagmask {export.run.identity.fingerprint[:8]}"
    with new_folder(target) as folder:
        (folder / "labeling_config.xml").write_text(setup, encoding="utf-8")
        with (folder / "tasks.json").open("wb") as file:
            for number, image in enumerate(export):
                image.write_photo(folder / "images" / image.name)
                task = {
                    "data": {_IMAGE: _address(image, export, target), "file_name": image.name},
                    "predictions": [_prediction(image, export, version)],
                }
                # File names may hold bytes that are not UTF-8; they become escapes, which JSON reads back.
                text = json_text(task, ensure_ascii=False).encode("utf-8", "backslashreplace")
                file.write((b",\n" if number else b"[\n") + text)
            file.write(b"\n]\n")


def _setup(export: Export) -> str:
    words = export.words[export.first :]
    colours = overlay_colours(len(export.words))[export.first :].tolist()
    for word in words:
        if _NOT_IN_XML.search(word):
            raise InputError(
                f"The word {short_repr(word)} holds a character that Label Studio's setup, which is XML, "
                "cannot hold. Name the class otherwise."
            )
    labels = "".join(
        f'    <Label value={_attribute(word)} background="#{red:02x}{green:02x}{blue:02x}"/>\n'
        for word, (red, green, blue) in zip(words, colours, strict=True)
    )
    choices = "".join(f"    <Choice value={_attribute(word)}/>\n" for word in words)
    return (
        "<View>\n"
        f'  <Image name="{_IMAGE}" value="${_IMAGE}" zoom="true" zoomControl="true"/>\n'
        f'  <BrushLabels name="{_MASK}" toName="{_IMAGE}">\n{labels}  </BrushLabels>\n'
        f'  <Choices name="{_TAGS}" toName="{_IMAGE}" choice="multiple" showInline="true">\n{choices}'
        "  </Choices>\n</View>\n"
    )


def _attribute(text: str) -> str:
    return quoteattr(text, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _address(image: ExportedImage, export: Export, target: Path) -> str:
    prefix = export.options.image_prefix
    if prefix is not None:
        joint = "" if prefix.endswith(("/", "=")) else "/"
        return prefix + joint + _quoted(image.name)
    # Links are kept: Label Studio compares addresses with the folder it was given.
    kept = export.photo_choice == "none"
    path = image.row.source if kept else target / "images" / image.name
    return LOCAL_FILES + _quoted(Path(os.path.abspath(path)).as_posix().lstrip("/"))  # noqa: PTH100


def _quoted(path: str) -> str:
    return quote(os.fsencode(path), safe="/")


def _prediction(image: ExportedImage, export: Export, version: str) -> dict[str, object]:
    found: dict[int, None] = {}
    results: list[dict[str, object]] = []
    for number, region in enumerate(image.regions(), start=1):
        found[region.label] = None
        rle = region_brush_rle(region.mask, region.top, region.left, image.size)
        value: dict[str, object] = {"format": "rle", "rle": rle}
        value["brushlabels"] = [export.words[region.label]]
        results.append(_result(image, number, "brushlabels", _MASK, value, image.score(region.label)))
    words = list(_tags(image, export, found))
    if words:
        results.append(_result(image, 0, "choices", _TAGS, {"choices": words}, None))
    prediction: dict[str, object] = {"model_version": version, "result": results}
    scores = [score for score in map(image.score, found) if score is not None]
    if scores:
        prediction["score"] = min(scores)
    return prediction


def _tags(image: ExportedImage, export: Export, found: dict[int, None]) -> Iterator[str]:
    """Yield the tags of the image; of a corrected mask, the words in it."""
    tags = None if image.corrected else image.row.tags
    for label, word in enumerate(export.words[export.first :], start=export.first):
        if label in found if tags is None else word in tags:
            yield word


def _result(
    image: ExportedImage, number: int, kind: str, part: str, value: dict[str, object], score: float | None
) -> dict[str, object]:
    height, width = image.size
    result: dict[str, object] = {
        "id": f"{image.row.id}-{number}",
        "type": kind,
        "from_name": part,
        "to_name": _IMAGE,
        "origin": "manual",
        "image_rotation": 0,
        "original_width": width,
        "original_height": height,
        "value": value,
    }
    if score is not None:
        result["score"] = score
    return result

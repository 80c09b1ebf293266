"""Read Label Studio's labeling configuration: which labels to find in which images.

The XML comes from outside. Its size, depth and number of elements are limited, and a document type, the only
place that can define entities, is refused.
"""

from dataclasses import dataclass
from typing import Final, Literal
from xml.parsers import expat

from tagmask.errors import InputError

__all__ = ["Control", "Label", "LabelConfig", "parse_label_config"]

_MAX_CHARACTERS: Final = 1_000_000
_MAX_DEPTH: Final = 64
_MAX_ELEMENTS: Final = 5000
_MAX_LABELS: Final = 1000
"""Of all controls together."""

_LABELS: Final = {"brushlabels": "label", "choices": "choice"}
"""The elements that tagmask can fill, and their labels' elements, in lower case."""


@dataclass(frozen=True)
class Label:
    """A label, and the words that describe it to CLIP."""

    name: str
    """As Label Studio stores it in annotations: its `alias`, else its `value`."""
    prompt: str
    """Its `hint`, else its name: what CLIP reads. "dog, puppy" is two names of one class."""


@dataclass(frozen=True)
class Control:
    """An element of the configuration that tagmask fills."""

    kind: Literal["brushlabels", "choices"]
    from_name: str
    """Its own name."""
    to_name: str
    """The name of the image's element."""
    image_key: str
    """The key of the image's address in a task's data."""
    labels: tuple[Label, ...]
    single: bool
    """Whether at most one of the choices can be selected."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of each label."""
        return tuple(label.prompt for label in self.labels)


@dataclass(frozen=True)
class LabelConfig:
    """What tagmask needs to know of a labeling configuration."""

    controls: tuple[Control, ...]
    unused: tuple[str, ...]
    """Elements that people fill and tagmask cannot, such as "RectangleLabels"."""

    def check_usable(self) -> None:
        """Check that there is something to predict.

        Raises:
            InputError: there is not.
        """
        if not self.controls:
            found = f" It has {', '.join(sorted(set(self.unused))[:5])}." if self.unused else ""
            raise InputError(
                f"The labeling configuration has nothing that tagmask can fill.{found} Give it <BrushLabels> "
                'with <Label> or <Choices> with <Choice>, and toName the name of an <Image value="$...">.'
            )


def parse_label_config(text: str) -> LabelConfig:
    """Parse a labeling configuration; an empty one has no controls.

    Raises:
        InputError: it is no XML, has a document type, or is too large.

    Example:
        >>> config = parse_label_config(
        ...     '<View><Image name="photo" value="$url"/><BrushLabels name="mask" toName="photo">'
        ...     '<Label value="Pet" hint="cat, kitten"/></BrushLabels></View>'
        ... )
        >>> config.controls[0].image_key, config.controls[0].labels
        ('url', (Label(name='Pet', prompt='cat, kitten'),))
    """
    if not text.strip():
        return LabelConfig((), ())
    if len(text) > _MAX_CHARACTERS:
        raise _too_large(f"more than {_MAX_CHARACTERS} characters")
    reader = _Reader()
    # The encoding given here overrides one that the text states.
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise InputError(f"The labeling configuration is no XML: {error}.") from error
    return reader.config()


def _too_large(what: str) -> InputError:
    return InputError(f"The labeling configuration is too large: {what}. Make it smaller.")


@dataclass(frozen=True, eq=False)
class _Element:
    tag: str
    """In lower case: Label Studio's page does not distinguish the case."""
    attributes: dict[str, str]


class _Reader:
    """Collects images, controls and their labels while the XML is parsed."""

    def __init__(self) -> None:
        self._open: list[_Element] = []
        self._elements = self._labels = 0
        self._images: dict[str, str] = {}
        self._found: list[tuple[_Element, dict[str, Label]]] = []
        self._unused: list[str] = []

    def refuse_doctype(self, *_: object) -> None:
        raise InputError("The labeling configuration has a document type (<!DOCTYPE>). Remove it.")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise _too_large(f"more than {_MAX_ELEMENTS} elements")
        if len(self._open) >= _MAX_DEPTH:
            raise _too_large(f"more than {_MAX_DEPTH} levels")
        element = _Element(tag.lower(), attributes)
        if element.tag == "image":
            if attributes.get("value", "").startswith("$"):  # else one fixed image, or a list of pages
                self._images[attributes.get("name", "")] = attributes["value"][1:]
        elif element.tag in _LABELS and attributes.get("perRegion", "").lower() != "true":
            self._found.append((element, {}))
        elif attributes.get("toName"):
            self._unused.append(tag)
        else:
            self._add_label(element)
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def config(self) -> LabelConfig:
        controls, unused = [], list(self._unused)
        for element, labels in self._found:
            attributes = element.attributes
            image = next(
                (name for name in attributes.get("toName", "").split(",") if name in self._images), None
            )
            if image is None or not labels or not attributes.get("name"):
                unused.append(element.tag)
                continue
            controls.append(
                Control(
                    "brushlabels" if element.tag == "brushlabels" else "choices",
                    attributes["name"],
                    image,
                    self._images[image],
                    tuple(labels.values()),
                    element.tag == "choices" and attributes.get("choice", "single").lower() != "multiple",
                )
            )
        return LabelConfig(tuple(controls), tuple(unused))

    def _add_label(self, element: _Element) -> None:
        """Add a label to the control that encloses it; choices below other choices are left out."""
        above = [each.tag for each in self._open]
        if not self._found or self._found[-1][0] not in self._open:
            return
        control, labels = self._found[-1]
        if element.tag != _LABELS[control.tag] or element.tag in above:
            return
        value, alias, hint = (element.attributes.get(key, "").strip() for key in ("value", "alias", "hint"))
        name = alias or value
        if name and not name.startswith("$"):  # else labels that come with each task
            self._labels += 1
            if self._labels > _MAX_LABELS:
                raise _too_large(f"more than {_MAX_LABELS} labels")
            labels.setdefault(name, Label(name, hint or name))

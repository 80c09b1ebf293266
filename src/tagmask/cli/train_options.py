"""Options that the commands of `tagmask train` share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "SCALES",
    "Changes",
    "Crf",
    "Flip",
    "Folder",
    "Images",
    "Method",
    "MinConfidence",
    "Out",
    "OutOrNone",
    "Scales",
    "TagsFile",
    "Threshold",
    "Truth",
]

Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="Output folder. An interrupted run resumes from it."),
]
OutOrNone = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Output folder. An interrupted run resumes from it. Not needed with --describe.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of images.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as in lr=1e-4; may be repeated."),
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Folder of images; short for --set images=DIR.")
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Mask method: cls-seg (masks tags), or sclip and others (compare all words)."
    ),
]
TagsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Tags of the images. Lines: IMAGE INDEX INDEX ..."),
]
Threshold = Annotated[
    float | None,
    typer.Option(metavar="SCORE", help="Background score of the activation maps.", min=0, max=1),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Ignore pixels less probable than P after --refine crf: they get 255. CLIP-ES: 0.95.",
        min=0,
        max=1,
    ),
]
Truth = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Ground-truth masks of some images, to choose --threshold.")
]
Scales = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Scales of the inference passes, as in 0.5,1,1.5.",
        show_default="0.5 to 1.75 in steps of 0.25",
    ),
]
Flip = Annotated[bool, typer.Option(help="Also run each scale on the mirrored image.")]
Crf = Annotated[
    str, typer.Option(metavar="NAME", help="CRF settings: weakclip/voc, weakclip/coco, another CRF, or none.")
]
SCALES = "0.5,0.75,1,1.25,1.5,1.75"

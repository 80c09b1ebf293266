"""CASE OUT: CVAT's command line loads our function, and its driver runs it over a task that is on no server.

Prints what it would upload.
"""

import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
from answers import Answer
from cvat_cli._internal.common import FunctionLoader
from cvat_cli._internal.parsers import parse_function_parameter
from cvat_sdk import auto_annotation as cvat
from cvat_sdk import masks, models
from cvat_sdk.auto_annotation import driver

from tagmask.miniature.evaluation_scenes import unseen_scene

PARAMETERS = (
    "words=str:cat;fish, goldfish;car;boat", "weights=str:miniature", "device=str:cpu",
    "precision=str:float32",
)  # fmt: skip
"""As given with -p."""
case, out = json.loads(sys.argv[1]), Path(sys.argv[2])
logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
images = {f"scene {seed}.png": PIL.Image.fromarray(unseen_scene(seed).image) for seed in (1, 2)}
if case.get("broken"):
    images = {"broken.png": PIL.Image.new("I;16", (0, 0)), **images}


class FakeTask:
    """A task with labels in another order, and ids of its own."""

    def __init__(self, client: object, task_id: int, *, load_annotations: bool) -> None:
        del client, task_id, load_annotations
        kind = "tag" if case.get("annotations") == "tags" else "any"
        names = [*(case.get("labels") or ("boat", "car", "fish", "cat")), "more"]
        self.labels = [
            models.Label(name=name, id=100 + number, type=kind, attributes=[], sublabels=[])
            for number, name in enumerate(names)
        ]
        self.samples = [
            SimpleNamespace(
                frame_index=frame, frame_name=name, media=SimpleNamespace(load_image=lambda i=i: i)
            )
            for frame, (name, i) in enumerate(images.items())
        ]


uploads = []
driver.TaskDataset = FakeTask
client = SimpleNamespace(
    logger=logging.getLogger("cvat"),
    tasks=SimpleNamespace(
        api=SimpleNamespace(partial_update_annotations=lambda *args, **kwargs: uploads.append(kwargs))
    ),
)
parameters = dict(map(parse_function_parameter, [*PARAMETERS, *case.get("parameters", ())]))
function = FunctionLoader("tagmask.bridges.cvat", None, parameters).load()
cvat.annotate_task(client, 12, function, **case.get("driver", {}))
(upload,) = uploads
request = upload["patched_labeled_data_request"]
labels = {label.id: label.name for label in FakeTask(None, 0, load_annotations=False).labels}
answer, shapes, names = Answer(), [], list(images)
for name in names:
    answer.image(name)
for shape in request.shapes:
    name, kind = names[shape.frame], str(shape.type)
    width, height = images[name].size
    if kind == "mask":
        mask = masks.decode_mask(shape.points, image_width=width, image_height=height)
        answer.add(name, labels[shape.label_id], mask)
    shapes.append(
        {
            "image": name,
            "word": labels[shape.label_id],
            "type": kind,
            "points": list(shape.points),
            "score": shape.score,
            "source": shape.source,
        }
    )
answer.write(str(out), "cvat-sdk")
tags = [{"image": names[tag.frame], "word": labels[tag.label_id]} for tag in request.tags]
print(json.dumps({"shapes": shapes, "tags": tags, "version": version("cvat-sdk"), "numpy": np.__version__}))

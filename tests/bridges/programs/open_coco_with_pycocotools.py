"""FILE OUT: open COCO annotations with pycocotools."""

import contextlib
import sys

from answers import Answer
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

target, out = sys.argv[1:]
answer = Answer()
with contextlib.redirect_stdout(None):
    coco = COCO(target)
for image in coco.loadImgs(coco.getImgIds()):
    answer.image(image["file_name"])
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
        (category,) = coco.loadCats([annotation["category_id"]])
        runs = coco.annToRLE(annotation)
        assert coco_mask.area(runs) == annotation["area"]
        assert coco_mask.toBbox(runs).tolist() == annotation["bbox"]
        answer.add(image["file_name"], category["name"], coco.annToMask(annotation))
answer.write(out, "pycocotools")

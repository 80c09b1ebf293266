"""FORMAT TARGET OUT: open an export with datumaro. Names lose their ending."""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from answers import Answer
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset

form, target, out = sys.argv[1:]
folder = Path(tempfile.mkdtemp())
if zipfile.is_zipfile(target):
    zipfile.ZipFile(target).extractall(folder)
    target = str(folder)
elif form == "coco_instances":  # it wants these names
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    shutil.copy(target, folder / "annotations" / "instances_default.json")
    target = str(folder)
answer = Answer()
data_set = Dataset.import_from(target, form)
labels = data_set.categories()[AnnotationType.label]
for item in data_set:
    answer.image(item.id)
    for annotation in item.annotations:
        if annotation.type is AnnotationType.mask:
            word = labels[annotation.label].name
            if word not in ("background", "ignored"):
                answer.add(item.id, word, annotation.image)
answer.write(out, "datumaro")

"""FORMAT TARGET OUT: open an export with datumaro. Names lose their ending."""

import sys
import tempfile
import zipfile

from answers import Answer
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset

form, target, out = sys.argv[1:]
answer = Answer()
if zipfile.is_zipfile(target):
    folder = tempfile.mkdtemp()
    zipfile.ZipFile(target).extractall(folder)
    target = folder
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

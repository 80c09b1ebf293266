"""FORMAT TARGET OUT: open an export with supervision."""

import sys
import tempfile
from pathlib import Path

from answers import Answer
from supervision import DetectionDataset

form, target, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
answer = Answer()
with tempfile.TemporaryDirectory() as empty:
    if form == "coco":  # names of photos below a folder; the photos are not read
        opened = [(DetectionDataset.from_coco(empty, str(target), force_masks=True), Path(empty).resolve())]
    else:
        opened = []
        for labels in sorted((target / "labels").iterdir()):
            images = target / "images" / labels.name
            data_set = DetectionDataset.from_yolo(
                str(images), str(labels), str(target / "data.yaml"), force_masks=True
            )
            opened.append((data_set, images))
    for data_set, folder in opened:
        for path, detections in data_set.annotations.items():
            name = Path(path).relative_to(folder).as_posix()
            answer.image(name)
            if detections.mask is not None:
                for mask, class_id in zip(detections.mask, detections.class_id, strict=True):
                    answer.add(name, data_set.classes[class_id], mask)
answer.write(out, "supervision")

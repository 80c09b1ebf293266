"""FOLDER OUT: open a Hugging Face data set with datasets."""

import json
import sys
from pathlib import Path

import numpy as np
from answers import Answer
from datasets import load_dataset
from PIL import Image

target, out = Path(sys.argv[1]), sys.argv[2]
id2label = json.loads((target / "id2label.json").read_text(encoding="utf-8"))
answer = Answer()
for split in load_dataset(str(target)).values():
    for row in split:
        mask = row["mask"] if isinstance(row["mask"], Image.Image) else Image.open(row["mask"])
        assert row["image"].size == mask.size
        answer.image(row["name"])
        labels = np.array(mask)
        for label, word in id2label.items():
            if word != "background":
                answer.add(row["name"], word, labels == int(label))
        assert set(row["tags"]) <= set(id2label.values())
answer.write(out, "datasets")

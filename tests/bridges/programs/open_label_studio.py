"""FOLDER OUT: decode the brush masks of Label Studio's tasks with label-studio-sdk."""

import json
import sys
from pathlib import Path

from answers import Answer
from label_studio_sdk.converter.brush import decode_rle

target, out = Path(sys.argv[1]), sys.argv[2]
answer = Answer()
for task in json.loads((target / "tasks.json").read_text(encoding="utf-8")):
    name = task["data"]["file_name"]
    answer.image(name)
    for result in task["predictions"][0]["result"]:
        if result["type"] == "brushlabels":
            height, width = result["original_height"], result["original_width"]
            channels = decode_rle(result["value"]["rle"]).reshape(height, width, 4)
            (word,) = result["value"]["brushlabels"]
            answer.add(name, word, channels[..., 3] > 0)
answer.write(out, "label-studio-sdk")

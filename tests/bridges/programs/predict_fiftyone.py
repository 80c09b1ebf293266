"""OUT: what our model is to FiftyOne, and what it predicts for samples in memory, without a database."""

import json
import sys

import fiftyone as fo
import fiftyone.core.media as media
import fiftyone.core.models as fom
import numpy as np
from answers import Answer

from tagmask.bridges.fiftyone import TagmaskModel
from tagmask.miniature.evaluation_scenes import unseen_scene

out = sys.argv[1]
words = ["cat", "fish, goldfish", "car", "boat"]
scenes = {f"scene {seed}.png": unseen_scene(seed).image for seed in (1, 2)}
settings = {"device": "cpu", "precision": "float32"}
model = TagmaskModel(words, "miniature", **settings)
assert isinstance(model, fom.Model)
assert model.media_type == media.IMAGE
assert not any((model.has_logits, model.has_embeddings, model.can_embed_prompts, model.preprocess))
assert model.ragged_batches is False
assert model.transforms is None
# What apply_model does, without a data set: it enters the model and takes the batch size that it allows.
with model:
    assert fom._parse_batch_size(8, model, False) == 8
    together = model.predict_all(list(scenes.values()))
    alone = [model.predict(image) for image in scenes.values()]
    stacked = model.predict_all(np.stack([scenes["scene 1.png"]] * 2))
answer, tags = Answer(), {}
for name, labels, single in zip(scenes, together, alone, strict=True):
    sample = fo.Sample(filepath=f"/photos/{name}")
    sample.add_labels(labels, label_field="tagmask")
    kept = fo.Sample.from_json(sample.to_json())
    mask = kept["tagmask_masks"].mask
    np.testing.assert_array_equal(single["masks"].mask, mask)
    for value, word in model.mask_targets.items():
        answer.add(name, word, mask == value)
    tags[name] = {c.label: c.confidence for c in kept["tagmask_tags"].classifications}
assert len(stacked) == 2
assert all((labels["masks"].mask == together[0]["masks"].mask).all() for labels in stacked)

no_background = TagmaskModel(words, "miniature", background=[], method="maskclip", **settings)
mask = no_background.predict(scenes["scene 1.png"])["masks"].mask
everywhere = {no_background.mask_targets[value] for value in np.unique(mask).tolist()}
answer.write(out, "fiftyone")
print(
    json.dumps({"tags": tags, "targets": list(model.mask_targets.items()), "everywhere": sorted(everywhere)})
)

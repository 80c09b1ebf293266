"""Classes with background, and names in all, as the papers' settings count them."""

CLASSES = {
    "voc21": (21, 56),
    "voc20": (20, 30),
    "context60": (60, 60),
    "context59": (59, 59),
    "coco-object": (81, 113),
    "coco-stuff": (171, 171),
    "cityscapes": (19, 19),
    "ade20k": (150, 150),
}

"""Lets open_clip be imported where torchvision's compiled operators do not fit the build of torch.

torchvision declares shapes for two operators that its compiled half defines; without that half its import
fails. No test uses them, so empty definitions are enough.
"""

import torch


def define():
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # its definitions last as long as it does

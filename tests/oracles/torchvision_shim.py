"""Allow importing open_clip if torchvision's compiled operators do not match the build of torch.

torchvision declares the shapes of two operators that its compiled library defines; without that library the
import fails. No test uses them, so empty definitions are enough.
"""

import torch


def define():
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # the definitions live as long as this object

"""ClearCLIP: removes the residual and the MLP of the last block, which cause noise.

M. Lan et al. "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference", ECCV 2024.
"""

from tagmask.dense.rule import DenseRule
from tagmask.method import dense_method
from tagmask.variants.sclip import query_only

__all__ = ["CLEARCLIP", "METHODS"]

CLEARCLIP = DenseRule(query_only, block_form="bare")
"""softmax(q qᵀ / 8), the attention's output alone."""


METHODS = (
    dense_method(
        "clearclip",
        CLEARCLIP,
        "query-query attention, without residual and MLP",
        "ClearCLIP, Lan et al., ECCV 2024",
        large="VOC21 48.7 on L/14, 51.8 on B/16; Context59 29.6, 35.9",
    ),
)

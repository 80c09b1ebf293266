"""ClearCLIP: the residual and the MLP are what blurs.

M. Lan et al. "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference", ECCV 2024.
"""

from tagmask.dense.rule import DenseRule
from tagmask.variants.sclip import query_only

__all__ = ["CLEARCLIP"]

CLEARCLIP = DenseRule(query_only, keep="bare")
"""softmax(q qᵀ / 8), and nothing but what it puts out."""

"""Students: ordinary segmentation networks that learn from pseudo-masks and then run without CLIP."""

"""Students: ordinary segmentation networks that are trained on pseudo-masks and run without CLIP."""

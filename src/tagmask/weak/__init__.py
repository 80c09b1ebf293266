"""From weak labels to a segmenter: seeds, WeakCLIP, pseudo-masks, students, and what trains them."""

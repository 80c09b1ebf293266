"""The papers: one file each, in the order of the paper and with its symbols."""

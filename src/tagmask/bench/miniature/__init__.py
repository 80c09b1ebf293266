"""The papers' tables in the miniature world: what can be measured without anybody's data, in minutes."""

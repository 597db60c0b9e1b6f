"""Studies of the graph: what is known of it, and whether training agrees."""

"""How the models of N nodes are computed at once: the executors, and the choice of one of them."""

"""Gossip with a dual variable for every node, which corrects its gradient for the differences between nodes.

Symbols: x are the parameters, a the learning rate, c the correction of the gradient (the dual variable, in units of
gradients): nodes descend along grad f_i(x_i) + c_i, and at the common minimiser c_i = -grad f_i. r is the relaxation:
nodes mix with (1 - r) I + r W.
"""

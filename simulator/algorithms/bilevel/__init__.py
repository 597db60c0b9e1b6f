"""Bilevel optimization of variables that all nodes share.

x is the outer variable, called hyperparameters in the code: ``hparams`` [N, H]. y is the lower-level variable, called
parameters: ``params`` [N, D]. Every node has a copy of both; in lopa alone every node has a lower level of its own.
z is a second copy of y in the penalty methods (c2dfb, c2dfb_naive, dsgda_gt, f2sa, push_penalty) and the adjoint
variable in the others (lopa, madsbo, dsoba, sldbo, sparkle).
"""

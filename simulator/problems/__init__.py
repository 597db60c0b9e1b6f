"""The problems: objectives, their gradients and metrics.

Symbols: x are the parameters of single-level and personalized problems. In problems whose outer variable all nodes
share (coefficient_tuning, coefficient_toy, hyper_cleaning, hyper_representation, bilevel_quadratic) x are the
hyperparameters and y the parameters. In code they are always ``params`` and ``hparams``, in this order.
"""

"""Hypernetworks that generate the nodes' models, at a hub or gossiped.

A hypernetwork with parameters phi, one row [P], makes the model theta_i of node i from its embedding v_i. y_i is
theta_i after local training. x is what a step of an optimizer moves; under push-sum it is the biased row, and
phi_i = x_i / w_i.
"""

"""The models that are trained. `adapters_config` is torch-free; each other module imports torch, and says so in its first line.

Tensors carry their shape in their names: T tokens (of a whole batch), H hidden size, I intermediate size, E experts, K experts
for each token, S = T * K assignments in the order of their experts, r rank, N some rows of S.
"""

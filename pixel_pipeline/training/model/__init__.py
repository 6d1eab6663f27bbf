"""The trained models. Modules that import torch say so in their first line.

Tensor names end in their shape: T tokens (of a whole batch), H hidden size, I intermediate size, E experts, K experts per token,
S = T * K assignments sorted by expert, r rank, N rows of a subset of S.
"""

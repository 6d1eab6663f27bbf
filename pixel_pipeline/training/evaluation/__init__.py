"""Evaluation of a checkpoint: scores, samples, plots, model card."""

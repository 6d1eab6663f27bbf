"""Training, evaluation and promotion."""

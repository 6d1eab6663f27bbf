"""Training, evaluation and generation. The first lines of each module state whether it imports torch; definitions must not."""

"""Training, evaluation and generation. Torch is imported only inside the process that trains: see each module's first line."""

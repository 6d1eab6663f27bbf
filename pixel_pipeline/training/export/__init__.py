"""From base and adapters to checkpoints that other programs load as they are, and the proof that they are the same model."""

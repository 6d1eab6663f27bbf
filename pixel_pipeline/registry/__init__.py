"""What the lake offers for training: the dataset registry."""

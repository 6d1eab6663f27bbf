"""What the lake offers for training: the dataset registry, and the manifests of base models."""

"""The dataset registry and the manifests of base models."""

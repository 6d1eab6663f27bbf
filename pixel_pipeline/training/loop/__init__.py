"""The training loop: Lightning module, losses, callbacks."""

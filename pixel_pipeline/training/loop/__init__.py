"""The training loop: trainer, Lightning module, callbacks, checkpoint folders."""

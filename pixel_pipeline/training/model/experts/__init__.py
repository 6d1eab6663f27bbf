"""LoRA experts: dispatch, products, activations."""

"""The objects of the raw tiers."""

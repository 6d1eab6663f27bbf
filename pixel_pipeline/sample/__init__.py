"""The sample Drive: a seeded folder that looks like a small team's collection of counselling conversations."""

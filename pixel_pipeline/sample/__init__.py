"""The sample Drive: a seeded folder that imitates a small team's collection of counselling conversations."""

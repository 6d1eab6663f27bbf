"""A smoke test of answers to people in crisis. It finds plain failures and is no safety assurance."""

"""Formats with a question and an answer in fields."""

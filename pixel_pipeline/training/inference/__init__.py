"""Generation and chat."""

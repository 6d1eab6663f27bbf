"""From canonical conversations to the ones worth training on: duplicates out, splits assigned, everything counted."""

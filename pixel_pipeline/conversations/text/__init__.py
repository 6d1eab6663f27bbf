"""From bytes to clean text: encodings and markup."""

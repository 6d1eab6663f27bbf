"""Records, conversations and their Arrow schemas."""

"""Google Drive to the raw tier."""

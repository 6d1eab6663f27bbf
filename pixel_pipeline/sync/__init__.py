"""Google Drive to the raw tier, by rclone."""

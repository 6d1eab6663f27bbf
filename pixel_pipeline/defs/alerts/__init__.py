"""Messages about failed runs."""

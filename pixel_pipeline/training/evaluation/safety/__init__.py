"""A smoke test of answers to people in crisis. It finds what is plainly wrong; it assures no safety."""

"""Where tasks run. A task is a plain value, its function a pure one: the same tasks give the same results anywhere."""

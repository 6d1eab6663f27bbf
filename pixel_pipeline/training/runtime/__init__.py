"""The training process: device, environment, loggers, identity of a run."""

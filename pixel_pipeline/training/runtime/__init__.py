"""The training process: device, arithmetic, environment, host, loggers, identity of a run."""

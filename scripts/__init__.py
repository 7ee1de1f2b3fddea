"""What a person or a supervisor starts: run, test, check, the `metrion` command, workers."""

"""The three ways a finished call leaves the process: span, metrics, usage record."""

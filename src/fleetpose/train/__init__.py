"""Training: settings, engine, checkpoints and logs."""

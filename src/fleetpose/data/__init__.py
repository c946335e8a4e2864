"""Data: annotated pictures in, augmented samples out."""

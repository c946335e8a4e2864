"""Metrics: how well predicted people agree with labelled ones."""

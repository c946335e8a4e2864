"""Smaller and faster models from trained ones, with proof of what they lose."""

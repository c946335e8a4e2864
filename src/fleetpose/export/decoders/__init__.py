"""Decoders that need NumPy only: FleetPose writes the one of a model's codec beside the model."""

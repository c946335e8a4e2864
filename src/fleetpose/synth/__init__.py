"""Synthetic people: labelled pictures of dressed, posed bodies, drawn without a graphics card."""

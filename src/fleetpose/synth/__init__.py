"""Synthetic people: labelled pictures of dressed, posed bodies, drawn on any processor without a graphics card."""

"""Recipes: one module per published or shipped result, with its command and what to expect."""

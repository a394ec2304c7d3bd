"""A run followed in a terminal."""

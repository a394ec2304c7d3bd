"""A network as files that need no gradnas."""

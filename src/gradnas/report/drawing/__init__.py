"""Drawings as plain data, their painters, and what is drawn: cells, networks, charts."""

"""The report of one run, and its card for notebooks."""

"""What the files of a run folder say, as plain data and words."""

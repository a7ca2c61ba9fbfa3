"""``neuroav table``: what a row costs, on which data, in which runs, and the command itself."""

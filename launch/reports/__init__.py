"""What is made of a set of runs: tables, means over seeds, charts, one page."""

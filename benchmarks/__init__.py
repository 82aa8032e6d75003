"""What `make bench` runs: our way beside what a user would do instead, in one run, as ratios."""

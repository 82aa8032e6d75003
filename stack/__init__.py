"""Starts every part on one machine, in the foreground, for trying, developing and testing: `python -m stack run`."""

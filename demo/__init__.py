"""Drawn pictures, the demo model trained on them, and the demo that uses both."""

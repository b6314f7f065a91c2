"""Measurements of speed and quality against others, each a program of its own."""

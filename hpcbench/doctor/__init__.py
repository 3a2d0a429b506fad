"""Checks a site before it costs GPU hours."""

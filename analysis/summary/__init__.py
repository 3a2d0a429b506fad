"""Rows become configurations with intervals, and get their names."""

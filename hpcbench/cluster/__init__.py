"""Where workers come from, and what work they are given."""

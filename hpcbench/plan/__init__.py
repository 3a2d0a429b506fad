"""A campaign becomes points and placements. Starts nothing and imports no Dask."""

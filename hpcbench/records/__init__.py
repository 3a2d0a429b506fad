"""The table of columns, its Parquet form, and the results folder."""

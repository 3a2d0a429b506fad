"""Figures and tables from results: reads hpcbench.records and hpcbench.store only."""

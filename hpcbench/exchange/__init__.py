"""What comes from elsewhere: CSV files of other tools, and events as input."""

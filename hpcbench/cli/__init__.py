"""One short command per stage, and the progress of a run."""

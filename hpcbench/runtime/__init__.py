"""How a program is started and how it ends: bare or in Apptainer."""

"""How a program is started and how it ends: bare, in Apptainer or in podman-hpc."""

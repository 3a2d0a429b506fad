"""Lets `python -m hpcbench` be the command."""

from hpcbench.cli import main

if __name__ == "__main__":
    main()

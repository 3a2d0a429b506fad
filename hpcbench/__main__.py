"""Lets `python -m hpcbench` be the command."""

from hpcbench.cli.main import main

if __name__ == "__main__":
    main()

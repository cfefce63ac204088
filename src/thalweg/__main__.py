"""`python -m thalweg`: the command line."""

from thalweg.tools.cli import main

if __name__ == "__main__":
    main()

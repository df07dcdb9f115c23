"""`python -m sitq` is the command `sitq`."""

from sitq.cli import main

if __name__ == "__main__":
    main()

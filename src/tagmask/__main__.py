"""`python -m tagmask`, the same as the `tagmask` command."""

from tagmask.cli.main import main

if __name__ == "__main__":
    main()

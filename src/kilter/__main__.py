"""`python -m kilter`: the command without its script."""

from kilter.cli.entry import main

if __name__ == "__main__":
    main()

"""`python -m kilter.cli`: the command, where its script is not on the path."""

from kilter.cli import main

main()

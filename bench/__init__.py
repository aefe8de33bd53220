"""Kilter beside other tools. Not shipped with the package; each bench says in its first lines how it is run."""

"""`python -m advseg.jobs.cli` is the program `advseg`."""

from .main import main

main()

"""`python -m headrace.cli`: how `headrace up --detach` starts the platform."""

from headrace.cli import main

main(prog_name="headrace")

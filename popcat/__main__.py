"""`python -m popcat` is the `popcat` command."""

from popcat.cli import main

main()

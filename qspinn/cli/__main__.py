"""``python -m qspinn.cli``."""

from qspinn.cli import main

main()

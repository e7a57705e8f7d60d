"""``python -m workbench``."""

from workbench.cli.app import main

main()

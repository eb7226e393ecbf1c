"""Run `crm` as `python -m crm_core`."""

from crm_core.cli.main import main

main()

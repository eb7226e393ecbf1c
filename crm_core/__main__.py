"""`python -m crm_core` is `crm`."""

from crm_core.cli.main import main

main()

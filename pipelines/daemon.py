"""Dagster's daemon as `crm up` and compose.yaml start it: its log is plain text, with warnings and errors only."""

from __future__ import annotations

import sys

from dagster._daemon.cli import main

from pipelines.plain_logs import write_plain_logs

if __name__ == "__main__":
    write_plain_logs()
    sys.argv[1:] = ["run", "--log-level", "warning", *sys.argv[1:]]
    main()

"""`python -m ops.tasks` is the `opsbook` command."""

from ops.tasks.program import main

main()

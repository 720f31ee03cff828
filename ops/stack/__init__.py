"""Daily work on a stack that is deployed: look, restart, scale, run a command, take down."""

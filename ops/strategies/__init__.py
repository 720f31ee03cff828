"""How a service is switched from one release to the next: one file for each strategy, registered in `switch`."""

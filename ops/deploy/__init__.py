"""Deploy and rollback: survey, preflight, plan, and the run that carries it out."""

"""What runs a stack: commands built and their output read, nothing run here."""

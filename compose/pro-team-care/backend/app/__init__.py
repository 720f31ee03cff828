"""The API of the home care stack, small enough to read: patients by name, no accounts."""

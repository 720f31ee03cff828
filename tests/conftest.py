"""What all tests share."""

from hypothesis import settings

# A busy machine is slow; how long an example takes is never what a property is about.
settings.register_profile("ops", deadline=None)
settings.load_profile("ops")

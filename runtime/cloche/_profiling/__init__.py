"""Profiles: the time of each call by phase in the host, and by function in the guest. They cost nothing while none is taken."""

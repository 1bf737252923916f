"""Where the time of a node's calls goes: by function (`profile`), and by the phases of the boundary (`record`)."""

from __future__ import annotations

from cloche._profiling.phases import NAMES as PHASES
from cloche._profiling.phases import CallPhases, Phase, Recorder, record
from cloche._profiling.profile import FunctionTime, Profile, ProfiledCall, profile

__all__ = [
    "PHASES",
    "CallPhases",
    "FunctionTime",
    "Phase",
    "Profile",
    "ProfiledCall",
    "Recorder",
    "profile",
    "record",
]

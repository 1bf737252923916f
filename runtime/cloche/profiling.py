"""Where the time of a node's calls goes: by function, counted (`profile`) or sampled (`sample`), and by phase (`record`)."""

from __future__ import annotations

from cloche._profiling.phases import NAMES as PHASES
from cloche._profiling.phases import CallPhases, Phase, Recorder, record
from cloche._profiling.profile import FunctionTime, Profile, ProfiledCall, profile
from cloche._profiling.sampling import SampledFunction, SampledLine, SampledProfile, sample

__all__ = [
    "PHASES",
    "CallPhases",
    "FunctionTime",
    "Phase",
    "Profile",
    "ProfiledCall",
    "Recorder",
    "SampledFunction",
    "SampledLine",
    "SampledProfile",
    "profile",
    "record",
    "sample",
]

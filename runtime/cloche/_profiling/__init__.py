"""Where the time of a call goes: phases in the host, functions in the guest. Costs nothing while no profile is taken."""

"""Shared memory, of which there is none. Stands in for the C module of that name."""

from cloche_refusal import PROCESSES, refusing

shm_open = refusing("shm_open", PROCESSES)
shm_unlink = refusing("shm_unlink", PROCESSES)

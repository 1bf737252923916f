"""The start of a program, which is refused. Stands in for the C module of that name."""

from cloche_refusal import PROCESSES, refusing

fork_exec = refusing("fork_exec", PROCESSES)

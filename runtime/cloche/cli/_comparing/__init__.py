"""The matrix of ``cloche check``: each node run natively and in the sandbox on the same inputs, and what is different."""

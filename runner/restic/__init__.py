"""restic: pure argv builders and parsers, and the one module that runs the process."""

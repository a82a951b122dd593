"""The entrypoint of the Jobs: runs restic, creates sessions. Decides nothing about policy."""

"""What ``lmzoo inspect`` runs: one function a probe, each gives a ``Finding``."""

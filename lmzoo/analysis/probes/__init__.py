"""Probes: each one annotated function that looks at something, giving a Finding."""

"""Probes: each one annotated function that looks at something and says what is there."""

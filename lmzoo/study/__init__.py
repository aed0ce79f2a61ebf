"""A study: corpora x models x checkpoints x probes, and the report that it writes."""

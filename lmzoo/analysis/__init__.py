"""Looking inside models, corpora and runs: what was learned, and how."""

"""Vocabulary: models, names, conditions, the report contract with the runner. No I/O."""

"""Pure decisions: what was observed in, a Plan out."""

"""What the puppet world's pixels say: detectors, verdicts, scores. Knows no model and no prompt's wording."""

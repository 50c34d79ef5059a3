"""Running black-box methods on targets, measuring what they found, and reporting it."""

"""Programs that train models, and what they share; not part of the installed package."""

"""`python -m hf_scorevi.cli`."""

import sys

from . import main

sys.exit(main())

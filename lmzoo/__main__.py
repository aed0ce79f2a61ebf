"""``python -m lmzoo`` is ``lmzoo``."""

import sys

from lmzoo.cli import main

sys.exit(main())

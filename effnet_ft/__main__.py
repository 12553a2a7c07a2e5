"""``python -m effnet_ft`` is ``effnet-ft``."""

import sys

from effnet_ft.cli import main

sys.exit(main())

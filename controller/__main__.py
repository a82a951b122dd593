"""`python -m controller`: parse the settings, run, exit."""

import os
import sys

from controller.app import run
from controller.settings import parse_settings

if __name__ == "__main__":
    sys.exit(run(parse_settings(sys.argv[1:], os.environ)))

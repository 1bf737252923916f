"""Builds the guest image from pinned sources: python wasm/build.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from imagebuild.command import main

if __name__ == "__main__":
    sys.exit(main())

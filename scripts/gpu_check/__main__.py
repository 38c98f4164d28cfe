"""python scripts/gpu_check"""

import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.path[0] = str(root / "scripts")  # in place of this folder, whose modules are to be found in their package alone
    sys.path.append(str(root))  # for benchmarks/; last, since the package that is checked is the one that is installed

    from gpu_check.command import main

    sys.exit(main())

"""`python -m doodle_dist.doctor`: the same function as `doodle-dist doctor`, for a job on the cluster."""

import sys

from doodle_dist.cli import main

if __name__ == "__main__":
    main(["doctor", *sys.argv[1:]])

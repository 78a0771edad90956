#!/bin/sh
# Prepare a dataset on the cluster of RAY_ADDRESS (http://head:8265), from files that all its nodes can read:
#
#   jobs/prepare.sh --source s3://bucket/raw --to s3://bucket/quickdraw
#
# The options are those of `doodle-dist data prepare`. Submitting the same again goes on where it was cut off.
# `--wait 900` lets nodes come up from zero.
set -eu
. "$(dirname "$0")/submit.sh"
submit doodle_dist.cli data prepare "$@"

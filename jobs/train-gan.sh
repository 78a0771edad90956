#!/bin/sh
# Submit a GAN's training to the cluster of RAY_ADDRESS (http://head:8265):
#
#   jobs/train-gan.sh cdcgan --workers 2 --gpus 1 --data s3://bucket/quickdraw --storage s3://bucket/runs
#   jobs/train-gan.sh doodle-gan --workers 8 --gpus 1 --data s3://bucket/quickdraw --storage s3://bucket/runs
#
# The options are those of `doodle-dist train`. Submitting the same again goes on with the run.
# `--wait 900` lets nodes come up from zero.
set -eu
. "$(dirname "$0")/submit.sh"
submit_preset doodle_dist.train doodle-gan "$@"

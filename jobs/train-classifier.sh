#!/bin/sh
# Submit a classifier's training to the cluster of RAY_ADDRESS (http://head:8265):
#
#   jobs/train-classifier.sh classifier-340 --workers 8 --gpus 1 --data s3://bucket/quickdraw --storage s3://bucket/runs
#
# The options are those of `doodle-dist train`. Submitting the same again goes on with the run.
set -eu
preset=${1:-classifier-340}
[ $# -eq 0 ] || shift
exec ray job submit --runtime-env "$(dirname "$0")/runtime_env.yaml" -- \
    python -m doodle_dist.train "$preset" "$@"

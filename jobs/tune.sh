#!/bin/sh
# Submit a search to the cluster of RAY_ADDRESS (http://head:8265):
#
#   jobs/tune.sh doodle-gan --trials 64 --data s3://bucket/quickdraw --storage s3://bucket/runs
#
# The options are those of `doodle-dist tune`. Submitting the same again goes on with the search.
# `--wait 900` lets nodes come up from zero; those with GPUs where `--gpus-per-trial 0.25`, say, asks for them: what a
# trial takes of a GPU is measured on one that is there, and without any, trials run on CPUs.
set -eu
. "$(dirname "$0")/submit.sh"
submit_preset doodle_dist.tune doodle-gan "$@"

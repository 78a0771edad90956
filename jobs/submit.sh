# Shared by the scripts beside it: submit `python -m MODULE ARGUMENTS…` to the cluster of RAY_ADDRESS.
#
# Where the cluster asks for a token, RAY_AUTH_MODE=token and the token must be here too (`doodle-dist doctor`
# says whether they are). A job has the cluster's environment and not this one's: DOODLE_DATA and DOODLE_STORAGE
# go with it, and mean there what they mean here: what neither options nor settings name.

jobs=$(cd "$(dirname "$0")" && pwd)

submit() {
    : "${RAY_ADDRESS:?is not set; it names the dashboard of the cluster, such as http://head:8265}"
    set -- python -m "$@"
    if [ -n "${DOODLE_STORAGE:-}" ]; then set -- "DOODLE_STORAGE=$DOODLE_STORAGE" "$@"; fi
    if [ -n "${DOODLE_DATA:-}" ]; then set -- "DOODLE_DATA=$DOODLE_DATA" "$@"; fi
    exec ray job submit --runtime-env "$jobs/runtime_env.yaml" -- env "$@"
}

# submit_preset MODULE PRESET ARGUMENTS…: a run of the preset that the arguments begin with, or of PRESET
submit_preset() {
    module=$1
    preset=$2
    shift 2
    case ${1--} in
        -*) ;;
        *)
            preset=${1:-$preset}
            shift
            ;;
    esac
    submit "$module" "$preset" "$@"
}

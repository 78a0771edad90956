# Shared by the scripts beside it: submit `python -m MODULE ARGUMENTS…` to the cluster of RAY_ADDRESS.
#
# Where the cluster asks for a token, RAY_AUTH_MODE=token and the token must be here too (`doodle-dist doctor`
# says whether they are). A job has the cluster's environment and not this one's: what DOODLE_DATA and
# DOODLE_STORAGE name here is handed over as options, unless the command gives its own.

jobs=$(cd "$(dirname "$0")" && pwd)

# given OPTION ARGUMENTS…: whether OPTION is among the arguments, as `--data URI` or `--data=URI`
given() {
    option=$1
    shift
    for argument in "$@"; do
        case $argument in "$option" | "$option"=*) return 0 ;; esac
    done
    return 1
}

submit() {
    : "${RAY_ADDRESS:?is not set; it names the cluster\'s dashboard, such as http://head:8265}"
    exec ray job submit --runtime-env "$jobs/runtime_env.yaml" -- python -m "$@"
}

# submit_run MODULE ARGUMENTS…: with the data and the storage of this environment
submit_run() {
    if [ -n "${DOODLE_DATA:-}" ] && ! given --data "$@"; then set -- "$@" --data "$DOODLE_DATA"; fi
    if [ -n "${DOODLE_STORAGE:-}" ] && ! given --storage "$@"; then set -- "$@" --storage "$DOODLE_STORAGE"; fi
    submit "$@"
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
    submit_run "$module" "$preset" "$@"
}

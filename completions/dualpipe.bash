# Completion of dualpipe_plan, dualpipe_train and dualpipe_bench for bash. Commands, options and names of schedules
# come from the programs' own --help, so they cannot differ from it.

# The long options in a --help text.
_dualpipe_options() {
    "$@" --help 2>/dev/null | grep -oE '(^|[ ,])--[a-z][a-z0-9-]*' | grep -oE -- '--[a-z0-9-]+' |
        sort -u
}

# Whether a long option takes a value ("--ranks=P").
_dualpipe_takes_value() {
    local option=$1
    shift
    "$@" --help 2>/dev/null | grep -qE -- "(^|[ ,])$option="
}

# The commands that dualpipe_plan or dualpipe_bench lists.
_dualpipe_commands() {
    "$1" --help 2>/dev/null | sed -n '/^Commands/,/^$/p' | awk '/^  [a-z]/ {print $1}'
}

# The schedules that a command of dualpipe_plan lists.
_dualpipe_schedules() {
    "$1" schedule --help 2>/dev/null | sed -n '/^Schedules of/,$p' |
        sed -nE 's/^ +([a-z0-9-]+): .*/\1/p' | sort -u
}

# The values that an option can have, one a line; nothing where it could be anything.
_dualpipe_values() {
    case $1 in
    --schedule) _dualpipe_schedules "$2" ;;
    --model) printf '%s\n' transformer mlp sizes ;;
    --hardware) printf '%s\n' h100 h200 a100 b200 cpu-generic measure ;;
    --placement) printf '%s\n' v one-to-one bidirectional ;;
    --axis) printf '%s\n' replicas ranks ;;
    --mode) printf '%s\n' strong weak ;;
    --precision) printf '%s\n' fp32 tf32 bf16 ;;
    --dtype) printf '%s\n' fp32 tf32 bf16 ;;
    --optimizer) printf '%s\n' adamw sgd ;;
    --lr-schedule) printf '%s\n' cosine constant ;;
    --device) printf '%s\n' auto host cuda ;;
    --comm) printf '%s\n' auto nccl mpi ;;
    --clock) printf '%s\n' auto wall core model ;;
    esac
}

# Completes a list with commas: what stands before the last comma stays.
_dualpipe_list() {
    local values=$1 word=$2 before=
    if [[ $word == *,* ]]; then
        before=${word%,*},
    fi
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$values" -- "${word##*,}")
}

_dualpipe_word() {
    local word=$1 option=$2 plan=$3
    shift 3
    local values
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_dualpipe_options "$@")" -- "$word")
        return
    fi
    if [[ $option == --* ]] && _dualpipe_takes_value "$option" "$@"; then
        values=$(_dualpipe_values "$option" "$plan")
        if [[ $values ]]; then
            _dualpipe_list "$values" "$word"
            return
        fi
    fi
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

# The word to complete and the one before it; bash makes "--option=value" three words.
_dualpipe_split() {
    word=${COMP_WORDS[COMP_CWORD]}
    option=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $word == = ]]; then
        word=
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    fi
}

# A program with commands; its second argument is the dualpipe_plan that knows the schedules.
_dualpipe_of_commands() {
    local word option
    local program=$1 plan=$2 command=${COMP_WORDS[1]}
    _dualpipe_split
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        if [[ $word == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_dualpipe_options "$program")" -- "$word")
        else
            mapfile -t COMPREPLY < <(compgen -W "$(_dualpipe_commands "$program")" -- "$word")
        fi
        return
    fi
    _dualpipe_word "$word" "$option" "$plan" "$program" "$command"
}

_dualpipe_plan() {
    _dualpipe_of_commands "${COMP_WORDS[0]}" "${COMP_WORDS[0]}"
}

_dualpipe_bench() {
    _dualpipe_of_commands "${COMP_WORDS[0]}" "${COMP_WORDS[0]/dualpipe_bench/dualpipe_plan}"
}

_dualpipe_train() {
    local word option
    local program=${COMP_WORDS[0]}
    _dualpipe_split
    COMPREPLY=()
    _dualpipe_word "$word" "$option" "${program/dualpipe_train/dualpipe_plan}" "$program"
}

complete -F _dualpipe_plan dualpipe_plan
complete -F _dualpipe_train dualpipe_train
complete -F _dualpipe_bench dualpipe_bench

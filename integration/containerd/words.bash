# What containerd's cases say.

# run ID [OPTION…] -- [COMMAND…]: a container in the foreground that goes when it ends.
run() {
    run_with "$@" --with --rm
}

# background ID [OPTION…] -- [COMMAND…]: one that stays.
background() {
    run_with "$@" --with -d
}

# run_with ID [OPTION…] -- [COMMAND…] --with [OPTION…]
run_with() {
    local id=$1 options=() command=()
    shift
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    shift
    while [[ $1 != --with ]]; do command+=("$1"); shift; done
    shift
    ctr run "$@" --runc-binary "$RUNTIME_FILE" --cgroup "$(group_of "$id")" "${options[@]}" "$IMAGE" "$id" "${command[@]}"
}

# A container's control group: containerd's namespaces may have the same ids.
group_of() {
    echo "$CGROUP_PARENT/$CONTAINERD_NAMESPACE-$1"
}

# limit_of ID V1_CONTROLLER V1_FILE V2_FILE: what stands there, of one that runs.
limit_of() {
    if on_v2; then cat "/sys/fs/cgroup$(group_of "$1")/$4"; else cat "/sys/fs/cgroup/$2$(group_of "$1")/$3"; fi
}

# task_is ID STATUS
task_is() {
    [[ $(ctr task ls | awk -v id="$1" '$1 == id { print $3 }') == "$2" ]]
}

pid_of() {
    ctr task ls | awk -v id="$1" '$1 == id { print $2 }'
}

# exec_in ID [OPTION…] -- COMMAND…
execs=0
exec_in() {
    local id=$1 options=()
    shift
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    shift
    execs=$((execs + 1))
    ctr task exec --exec-id "exec-$execs-$BASHPID-$RANDOM" "${options[@]}" "$id" "$@"
}

# The pid of the shim that has the container of this id, in a namespace.
shim_of() { # NAMESPACE ID
    local process
    for process in /proc/[0-9]*; do
        if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qE "containerd-shim.* -namespace $1 -id $2 "; then
            basename "$process"
        fi
    done
}

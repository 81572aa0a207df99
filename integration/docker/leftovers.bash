# What a run may leave behind, and how it is found. Needs WORK.

# Every container's control groups are below this one.
CGROUP_PARENT=/procrt-docker-${WORK##*.}

# The directories of the control groups, deepest first.
cgroups_left() {
    local hierarchy
    for hierarchy in /sys/fs/cgroup "/sys/fs/cgroup"/*; do
        [[ -d $hierarchy$CGROUP_PARENT && ! -L $hierarchy ]] || continue
        find "$hierarchy$CGROUP_PARENT" -depth -type d -printf 'cgroup %p\n'
    done
}

remove_cgroups() {
    local directory
    while read -r _ directory; do
        rmdir -- "$directory" 2>/dev/null || true
    done < <(cgroups_left)
}

# The pids of what runs in our network namespace or in our control groups, but for this script's own.
our_pids() {
    local network='' process pid
    [[ ! -f $WORK/netns ]] || network=$(<"$WORK/netns")
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [[ $pid != "$$" && $pid != "$BASHPID" && $pid != "${SESSION_PID-}" ]] || continue
        if [[ -n $network && $(readlink "$process/ns/net" 2>/dev/null) == "$network" ]] ||
            grep -qF ":$CGROUP_PARENT" "$process/cgroup" 2>/dev/null; then
            echo "$pid"
        fi
    done
}

processes_left() {
    local pid
    for pid in $(our_pids); do
        # A name may be empty (a zombie's is), and a process may be gone by now.
        [[ -d /proc/$pid ]] || continue
        printf 'process %s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)"
    done
}

# Ends what is still there, by pid.
end_processes() {
    local pids try
    for try in 1 2 3 4 5 6 7 8 9 10; do
        pids=$(our_pids)
        [[ -n $pids ]] || return 0
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep "0.$try"
    done
}

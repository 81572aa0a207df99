# What a round may leave behind, and how it is found. Needs HERE, WORK and ENGINE.

# Containers' control groups are below the first of these, or below those that an engine does not let us choose. And a plain
# user's engine has ids that are nobody else's: one, and a range.
set_cgroup_parents() {
    local engine_cgroups=()
    engine_uids=()
    CGROUP_PARENT=/procrt-engines-${WORK##*.}
    # shellcheck disable=SC1090
    source <(sed -n '/^engine_\(cgroups\|uids\)=/p' "$HERE/$ENGINE/engine.bash")
    CGROUP_PARENTS=("$CGROUP_PARENT" "${engine_cgroups[@]}")
}

# The directories of the control groups, deepest first.
cgroups_left() {
    local hierarchy parent
    for hierarchy in /sys/fs/cgroup "/sys/fs/cgroup"/*; do
        for parent in "${CGROUP_PARENTS[@]}"; do
            [[ -d $hierarchy$parent && ! -L $hierarchy ]] || continue
            find "$hierarchy$parent" -depth -type d -printf 'cgroup %p\n'
        done
    done
}

remove_cgroups() {
    local directory
    while read -r _ directory; do
        rmdir -- "$directory" 2>/dev/null || true
    done < <(cgroups_left)
}

# The pids of what runs in our network or mount namespaces, in our control groups or by our users' ids, but for this
# script's own.
our_pids() {
    local process pid namespaces='' groups users=' '
    if [[ ${#engine_uids[@]} -gt 0 ]]; then
        users=" $(find /proc -maxdepth 1 -name '[0-9]*' \( -uid "${engine_uids[0]}" -o \
            -uid "+$((${engine_uids[1]%-*} - 1))" -uid "-$((${engine_uids[1]#*-} + 1))" \) -printf '%f ' 2>/dev/null || true)"
    fi
    [[ ! -f $WORK/namespaces ]] || namespaces=$(<"$WORK/namespaces")
    groups=$(printf '|:%s' "${CGROUP_PARENTS[@]}")
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [[ $pid != "$$" && $pid != "$BASHPID" && $pid != "${SESSION_PID-}" && $pid != "${REAPER_PID-}" ]] || continue
        if { [[ -n $namespaces ]] && readlink "$process"/ns/{net,mnt} 2>/dev/null | grep -qxF "$namespaces"; } ||
            grep -qE "${groups#|}" "$process/cgroup" 2>/dev/null || [[ $users == *" $pid "* ]]; then
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

# What engines with default settings would write to, and this namespace's mounts and interfaces of their kinds. Not /run:
# a round has its own, and others' engines write there.
machine_now() {
    find /etc/docker /etc/containers /etc/containerd /etc/cni /etc/subuid /etc/subgid /opt/containerd /opt/cni \
        /var/lib/docker /var/lib/containerd /var/lib/containers /var/lib/cni /var/lib/kubelet /var/lib/buildkit \
        -maxdepth 4 -xdev -printf 'file %p\n' 2>/dev/null || true
    cut -d ' ' -f 5- /proc/self/mountinfo | grep -E 'docker|containerd|/pd\.|libpod|netns' | sed 's/^/mount /' || true
    ip -o link | cut -d : -f 2 | sed 's/@.*//' | grep -E '^ (docker|br-|veth|cni|podman|vx-|pd)' | sed 's/^/interface/' || true
}

# What is there, of processes, control groups, files, mounts and interfaces, that was not there before.
left_on_machine() {
    local left='' try
    for try in 1 2 3 4 5; do
        left=$(
            processes_left
            cgroups_left
            diff <(machine_now | sort) <(sort "$WORK/machine") | sed -n 's/^< //p'
        )
        [[ -n $left ]] || return 0
        # Zombies wait for the machine's init, and other users' containers come and go.
        sleep "0.$try"
    done
    echo "$left"
}

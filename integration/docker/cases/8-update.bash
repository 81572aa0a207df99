# docker update and docker stats: limits that change while a container runs, and what it uses.

# in_limit CONTAINER V1_CONTROLLER V1_FILE V2_FILE: what stands there now, seen from inside.
in_limit() {
    docker exec "$1" cat "$(limit_file "${@:2}")"
}

case_update_memory() {
    differs crun 'version 1.8 writes to a file of version 1 that new kernels lack'
    docker run -d -m 64m --memory-swap 64m --name changed "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker update -m 128m --memory-swap 128m changed
    same "the limit" "$(in_limit changed memory memory.limit_in_bytes memory.max)" $((128 << 20))
    exits 0 docker update --memory-reservation 32m changed
    same "the reservation" "$(in_limit changed memory memory.soft_limit_in_bytes memory.low)" $((32 << 20))
    same "the limit as it was" "$(in_limit changed memory memory.limit_in_bytes memory.max)" $((128 << 20))
    exits 0 docker update -m 32m --memory-swap 32m --memory-reservation 0 changed
    same "the smaller limit" "$(in_limit changed memory memory.limit_in_bytes memory.max)" $((32 << 20))
    exits 137 docker exec changed dd if=/dev/zero of=/dev/null bs=100M count=1
    is changed '{{.State.Running}}' true || fail "the container ended with it"
}

case_update_pids() {
    differs crun 'version 1.8 writes to a file of version 1 that new kernels lack'
    docker run -d --pids-limit 50 --name changed "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker update --pids-limit 7 changed
    same "the limit" "$(in_limit changed pids pids.max pids.max)" 7
    exits 2 docker exec changed sh -c 'for i in $(seq 20); do sleep 3 & done'
    exits 0 docker update --pids-limit -1 changed
    same "no limit" "$(in_limit changed pids pids.max pids.max)" max
}

case_update_cpus() {
    differs crun 'version 1.8 writes to a file of version 1 that new kernels lack'
    docker run -d --name changed "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker update --cpus 0.25 --cpu-shares 512 changed
    if on_v2; then
        same "quota and period" "$(docker exec changed cat /sys/fs/cgroup/cpu.max)" '25000 100000'
    else
        same "quota" "$(docker exec changed cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us)" 25000
        same "shares" "$(docker exec changed cat /sys/fs/cgroup/cpu/cpu.shares)" 512
    fi
    docker run -d --cpu-quota 40000 --name other "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker update --cpu-period 50000 --cpu-quota 25000 other
    if on_v2; then
        same "quota and period" "$(docker exec other cat /sys/fs/cgroup/cpu.max)" '25000 50000'
    else
        same "period" "$(docker exec other cat /sys/fs/cgroup/cpu/cpu.cfs_period_us)" 50000
    fi
}

case_update_cpuset() {
    differs crun 'version 1.8 writes to a file of version 1 that new kernels lack'
    [[ $(nproc) -gt 1 ]] || cannot "this machine has one processor"
    docker run -d --cpuset-cpus 0 --name changed "$IMAGE" sleep 1000 >/dev/null
    exits 0 docker update --cpuset-cpus 1 changed
    has "processors" "$(docker exec changed cat /proc/1/status)" '^Cpus_allowed_list:\s1$'
    exits 0 docker update --cpuset-cpus 0-1 --cpuset-mems 0 changed
    has "processors" "$(docker exec changed cat /proc/1/status)" '^Cpus_allowed_list:\s0-1$'
}

case_update_refused() {
    docker run -d -m 64m --name changed "$IMAGE" sh -c 'dd if=/dev/zero of=/dev/shm/file bs=1M count=40 2>/dev/null; sleep 1000' >/dev/null
    exits 1 docker update --cpuset-cpus 4000 changed
    same "the limit" "$(in_limit changed memory memory.limit_in_bytes memory.max)" $((64 << 20))
    is changed '{{.State.Running}}' true || fail "it does not run"
}

case_update_stopped() {
    # What is changed while it does not run holds from its next start on.
    docker create -m 64m --memory-swap 64m --name later "$IMAGE" cat "$(limit_file memory memory.limit_in_bytes memory.max)" >/dev/null
    exits 0 docker update -m 96m --memory-swap 96m later
    exits 0 docker start -a later
    same "the limit" "$OUT" $((96 << 20))
}

case_update_restart_policy() {
    differs crun 'version 1.8 writes to a file of version 1 that new kernels lack'
    docker run -d --name changed "$IMAGE" sh -c 'sleep 0.3; exit 3' >/dev/null
    exits 0 docker update --restart on-failure:1 changed
    eventually is changed '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}' '1 exited 3'
}

# stats CONTAINER FORMAT
stats() {
    docker stats --no-stream --format "$2" "$1"
}

case_stats_numbers() {
    docker run -d -m 128m --pids-limit 40 --name measured "$IMAGE" sh -c 'dd if=/dev/zero of=/dev/shm/file bs=1M count=50 2>/dev/null; sleep 1000 & sleep 1001 & wait' >/dev/null
    eventually docker exec measured test -e /dev/shm/file
    local seen
    seen=$(stats measured '{{.PIDs}} {{.MemUsage}}')
    has "processes, memory and its limit" "$seen" '^3 (4[5-9]|[56][0-9])[.0-9]*MiB / 128MiB$'
    has "no work" "$(stats measured '{{.CPUPerc}}')" '^[0-4]\.[0-9]+%$'
    docker exec -d measured sh -c 'while :; do :; done'
    sleep 0.5
    # As much as is left of it: others may have work, too.
    has "a processor's work" "$(stats measured '{{.CPUPerc}}')" '^([1-9][0-9]|1[0-9][0-9])\.[0-9]+%$'
}

case_stats_paused() {
    docker run -d -m 128m --name measured "$IMAGE" sh -c 'while :; do :; done' >/dev/null
    docker pause measured >/dev/null
    has "no work" "$(stats measured '{{.CPUPerc}} {{.PIDs}}')" '^0\.[0-9]+% 1$'
    docker unpause measured >/dev/null
}

case_stats_network_and_disk() {
    docker run -d --name measured "$IMAGE" sleep 1000 >/dev/null
    exits 0 run --network container:measured "$IMAGE" ping -c 3 -i 0.2 "$(inspect measured '{{.NetworkSettings.Gateway}}')"
    has "bytes in and out" "$(stats measured '{{.NetIO}}')" '^[1-9][.0-9]*k?B / [1-9][.0-9]*k?B$'
}

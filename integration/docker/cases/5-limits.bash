# Limits: memory, processes, processors, rlimits; also that the container sees them.

case_limits_memory() {
    exits 0 run -m 64m "$IMAGE" cat "$(limit_file memory memory.limit_in_bytes memory.max)"
    same "the limit" "$OUT" $((64 << 20))
    exits 137 docker run --name fat -m 64m "$IMAGE" dd if=/dev/zero of=/dev/null bs=200M count=1
    eventually is fat '{{.State.OOMKilled}} {{.State.ExitCode}}' 'true 137'
    exits 0 run -m 256m "$IMAGE" dd if=/dev/zero of=/dev/null bs=100M count=1
}

case_limits_memory_reservation() {
    exits 0 run -m 64m --memory-reservation 32m "$IMAGE" cat "$(limit_file memory memory.soft_limit_in_bytes memory.low)"
    same "the reservation" "$OUT" $((32 << 20))
}

case_limits_pids() {
    exits 0 run --pids-limit 10 "$IMAGE" cat "$(limit_file pids pids.max pids.max)"
    same "the limit" "$OUT" 10
    exits 2 run --pids-limit 10 "$IMAGE" sh -c 'for i in $(seq 20); do sleep 3 & done'
    has "the reason" "$ERR" "can't fork"
}

case_limits_cpus() {
    if on_v2; then
        exits 0 run --cpus 0.5 --cpu-shares 512 "$IMAGE" sh -c 'cd /sys/fs/cgroup; cat cpu.max cpu.weight'
        # The weight that belongs to 512 shares: linear, or on the curve that runtimes agreed on in 2025.
        has "quota and weight" "$(tr '\n' ' ' <<<"$OUT")" '^50000 100000 (20|59) $'
    else
        exits 0 run --cpus 0.5 --cpu-shares 512 "$IMAGE" sh -c 'cd /sys/fs/cgroup/cpu; cat cpu.cfs_quota_us cpu.cfs_period_us cpu.shares'
        same "quota, period and shares" "$(tr '\n' ' ' <<<"$OUT")" '50000 100000 512 '
    fi
}

case_limits_cpuset() {
    exits 0 run --cpuset-cpus 0 "$IMAGE" sh -c 'grep Cpus_allowed_list /proc/self/status; nproc'
    same "processors" "$(tr '\t\n' '  ' <<<"$OUT")" 'Cpus_allowed_list: 0 1 '
}

case_limits_ulimit() {
    exits 0 run --ulimit nofile=100:200 --ulimit core=0 "$IMAGE" sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c'
    same "rlimits" "$(tr '\n' ' ' <<<"$OUT")" '100 200 0 '
}

case_limits_oom_score() {
    exits 0 run --oom-score-adj 500 "$IMAGE" cat /proc/self/oom_score_adj
    same "the score" "$OUT" 500
}

case_limits_cgroup_of_the_container() {
    docker run -d --name placed "$IMAGE" sleep 1000 >/dev/null
    local id pid
    id=$(inspect placed '{{.Id}}') pid=$(inspect placed '{{.State.Pid}}')
    if on_v2; then
        same "the control group" "$(cat "/proc/$pid/cgroup")" "0::$CGROUP_PARENT/$id"
    else
        for controller in memory pids devices freezer cpu; do
            has "the control group" "$(cat "/proc/$pid/cgroup")" ":$controller:$CGROUP_PARENT/$id\$"
        done
    fi
}

case_limits_cgroup_parent() {
    docker run -d --cgroup-parent "$CGROUP_PARENT/deeper/still" --name placed "$IMAGE" sleep 1000 >/dev/null
    has "the control group" "$(<"/proc/$(inspect placed '{{.State.Pid}}')/cgroup")" "$CGROUP_PARENT/deeper/still/$(inspect placed '{{.Id}}')\$"
    docker rm -f placed >/dev/null
    without_parent deeper
}

case_limits_swap_and_kernel_memory() {
    exits 0 run -m 64m --memory-swap 64m --memory-swappiness 10 "$IMAGE" cat "$(limit_file memory memory.limit_in_bytes memory.max)"
    same "the limit" "$OUT" $((64 << 20))
}

case_limits_out_of_memory_of_a_child() {
    # The first process lives on; Docker says what happened.
    docker run -d --name fat -m 64m "$IMAGE" sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo status $?; sleep 1000' >/dev/null
    eventually logs_have fat 'status 137'
    same "its state" "$(inspect fat '{{.State.Running}}')" true
    eventually bash -c 'docker events --since 30s --until "$(date +%s)" --filter container=fat --filter event=oom | grep -q " container oom "'
}

case_limits_disk() {
    local disk
    disk=$(findmnt -no SOURCE --target "$WORK")
    [ -b "$disk" ] || cannot "$WORK is on $disk, which is no disk to be slowed"
    mkdir "$WORK/slow"
    # Two megabytes past the cache, one a second.
    exits 0 run --device-write-bps "$disk:1mb" --blkio-weight 300 -v "$WORK/slow:/slow" "$IMAGE" sh -c '
        begin=$(date +%s); dd if=/dev/zero of=/slow/file bs=1M count=3 oflag=direct 2>/dev/null || exit
        echo $(($(date +%s) - begin))'
    [ "$OUT" -ge 2 ] || fail "3 MB at 1 MB a second took $OUT s"
    exits 0 run -v "$WORK/slow:/slow" "$IMAGE" dd if=/dev/zero of=/slow/file bs=1M count=3 oflag=direct
    rm -r "$WORK/slow"
}

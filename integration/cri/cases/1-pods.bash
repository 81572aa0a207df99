# Pods and containers as a kubelet makes them.

case_pod_life() {
    local pod
    pod=$(pod plain '{"hostname": "castle"}')
    same "its state and class" "$(cri pod-status "$pod" | jq -r '"\(.state // 0) \(.runtime_handler)"')" "0 $RUNTIME"
    has "its address" "$(cri pod-status "$pod" | jq -r .network.ip)" '^10\.213\.9\.[0-9]+$'
    cri remove-pod "$pod"
    same "pods" "$(cri pods)" ''
}

case_container_life() {
    local pod id
    pod=$(pod plain '{"hostname": "castle"}')
    id=$(container "$pod" short '{"envs": [{"key": "COLOR", "value": "blue"}], "working_dir": "/tmp"}' sh -c 'hostname; pwd; echo $COLOR; echo trouble >&2; exit 3')
    eventually exited "$id"
    same "its status" "$(status "$id" '"\(.exit_code) \(.reason)"')" '3 Error'
    same "its log" "$(log plain short | sort | tr '\n' ' ')" '/tmp blue castle trouble '
    has "the log's form" "$(<"$WORK/pods/plain/short.log")" '^20[-0-9]+T[0-9:.]+[-+Z0-9:]* stderr F trouble$'
    id=$(container "$pod" well '{}' true)
    eventually exited "$id"
    # A status without a number is 0.
    same "its status" "$(status "$id" '"\(.exit_code // 0) \(.reason)"')" '0 Completed'
    cri remove "$id"
}

case_container_that_cannot_start() {
    local pod
    pod=$(pod plain)
    exits 1 container "$pod" never '{}' no-such-program
    has "the reason" "$ERR" 'no-such-program.*(executable file not found|not found)'
    exits 1 container "$pod" never2 '{"working_dir": "/not-executable"}' true
    exits 0 container "$pod" well '{}' true
}

case_container_stop() {
    local pod polite deaf
    pod=$(pod plain)
    polite=$(container "$pod" polite '{}' sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done')
    deaf=$(container "$pod" deaf '{}' sleep 1000)
    eventually grep -q ready "$WORK/pods/plain/polite.log"
    cri stop "$polite" 10
    same "its status" "$(status "$polite" .exit_code)" 7
    cri stop "$deaf" 1
    same "its status" "$(status "$deaf" .exit_code)" 137
}

case_container_exec() {
    local pod id
    pod=$(pod plain)
    id=$(container "$pod" kept '{"envs": [{"key": "KEPT", "value": "1"}]}' sleep 1000)
    exits 0 cri exec "$id" sh -c 'echo out $KEPT; echo err >&2'
    same "the output" "$OUT $ERR" 'out 1 err'
    exits 42 cri exec "$id" sh -c 'exit 42'
    exits 1 cri exec "$id" no-such-program
    has "the reason" "$ERR" 'no-such-program'
    # What takes too long is ended.
    exits 1 cri exec "$id" sleep 1000
    has "the reason" "$ERR" '[Dd]eadline|timeout|timed out'
    same "processes" "$(cri exec "$id" ps | grep -c 'sleep 1000')" 1
}

case_container_limits_and_update() {
    local pod id
    pod=$(pod plain)
    id=$(container "$pod" kept "{\"linux\": {\"resources\": {\"memory_limit_in_bytes\": $((64 << 20)), \"cpu_quota\": 50000, \"cpu_period\": 100000, \"cpu_shares\": 512, \"oom_score_adj\": 500}}}" sleep 1000)
    same "the limit" "$(cri exec "$id" cat "$(limit_file memory memory.limit_in_bytes memory.max)")" $((64 << 20))
    same "the score" "$(cri exec "$id" cat /proc/1/oom_score_adj)" 500
    cri update "$id" "{\"memory_limit_in_bytes\": $((128 << 20)), \"cpu_quota\": 25000, \"cpu_period\": 100000}"
    same "the new limit" "$(cri exec "$id" cat "$(limit_file memory memory.limit_in_bytes memory.max)")" $((128 << 20))
    has "the new quota" "$(cri exec "$id" cat "$(limit_file cpu cpu.cfs_quota_us cpu.max)")" '^25000'
    cri exec "$id" sh -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null'
    cri stats "$id" | jq -e '.memory.working_set_bytes.value > 20000000 and .cpu.usage_core_nano_seconds.value > 0' >/dev/null ||
        fail "stats: $(cri stats "$id")"
}

case_container_out_of_memory() {
    local pod id
    pod=$(pod plain)
    id=$(container "$pod" fat "{\"linux\": {\"resources\": {\"memory_limit_in_bytes\": $((32 << 20))}}}" dd if=/dev/zero of=/dev/null bs=200M count=1)
    eventually exited "$id"
    same "its status" "$(status "$id" '"\(.exit_code) \(.reason)"')" '137 OOMKilled'
}

case_container_security() {
    local pod id
    pod=$(pod plain)
    id=$(container "$pod" tight '{"linux": {"security_context": {"run_as_user": {"value": 1000}, "run_as_group": {"value": 1000},
        "supplemental_groups": [77], "readonly_rootfs": true, "no_new_privs": true, "capabilities": {"drop_capabilities": ["ALL"]},
        "seccomp": {"profile_type": 0}, "masked_paths": ["/proc/kcore"], "readonly_paths": ["/proc/sys"]}}}' sleep 1000)
    exits 0 cri exec "$id" sh -c 'id -u; id -G; grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status; touch /new 2>&1; cat /proc/kcore 2>&1 | wc -c'
    has "groups" "$OUT" '^1000( 10)? 77$'
    has "no capability" "$OUT" '^CapEff:\s0+$'
    has "no new privileges" "$OUT" '^NoNewPrivs:\s1$'
    has "the filter" "$OUT" '^Seccomp:\s2$'
    has "the root" "$OUT" 'Read-only file system'
    id=$(container "$pod" added '{"linux": {"security_context": {"capabilities": {"add_capabilities": ["SYS_ADMIN"], "drop_capabilities": ["CHOWN"]}}}}' sleep 1000)
    exits 0 cri exec "$id" mount -t tmpfs new /tmp
    exits 1 cri exec "$id" chown guest /etc/passwd
}

case_pod_privileged() {
    local pod id
    pod=$(pod strong '{"linux": {"security_context": {"privileged": true}}}') || true
    if [[ $RUNTIME != procrt ]] && ! container "$pod" trial '{"linux": {"security_context": {"privileged": true}}}' true 2>"$WORK/refusal"; then
        cannot "$RUNTIME grants all capabilities or fails, and this machine's root lacks some: $(tail -n 1 "$WORK/refusal")"
    fi
    id=$(container "$pod" strong '{"linux": {"security_context": {"privileged": true}}}' sleep 1000)
    exits 0 cri exec "$id" sh -c 'mount -t tmpfs new /tmp && test -e /dev/loop-control -o -e /dev/kmsg'
}

case_pod_shares_its_namespaces() {
    local pod first second
    pod=$(pod shared '{"hostname": "castle", "linux": {"sysctls": {"net.core.somaxconn": "1234"}}}')
    first=$(container "$pod" server '{}' sh -c 'while :; do echo hello | nc -l -p 80; done')
    second=$(container "$pod" client '{}' sleep 1000)
    local kind
    for kind in net ipc uts; do
        same "the $kind namespace" "$(cri exec "$first" readlink "/proc/self/ns/$kind")" "$(cri exec "$second" readlink "/proc/self/ns/$kind")"
    done
    [[ $(cri exec "$first" readlink /proc/self/ns/pid) != $(cri exec "$second" readlink /proc/self/ns/pid) ]] || fail "processes are shared"
    same "over the loopback" "$(cri exec "$second" nc -w 5 127.0.0.1 80)" hello
    same "the sysctl" "$(cri exec "$second" cat /proc/sys/net/core/somaxconn)" 1234
}

case_pod_shares_its_processes() {
    local pod first second
    local shared='{"linux": {"security_context": {"namespace_options": {"pid": 0}}}}'
    pod=$(pod shared "$shared")
    first=$(container "$pod" one "$shared" sleep 2000)
    second=$(container "$pod" two "$shared" sleep 2001)
    exits 0 cri exec "$second" ps
    has "the other's process" "$OUT" 'sleep 2000'
    cri stop "$first" 0
    same "the one that is left" "$(status "$second" .state)" 1
    exits 0 cri exec "$second" true
}

case_pod_into_anothers_processes() {
    # kubectl debug --target
    local pod first second
    pod=$(pod shared)
    first=$(container "$pod" one '{}' sleep 2000)
    second=$(container "$pod" two "{\"linux\": {\"security_context\": {\"namespace_options\": {\"pid\": 3, \"target_id\": \"$first\"}}}}" sleep 2001)
    same "the first process" "$(cri exec "$second" sh -c 'tr "\0" " " </proc/1/cmdline')" 'sleep 2000 '
}

case_pod_of_the_host() {
    local pod id
    local host='{"linux": {"security_context": {"namespace_options": {"network": 2, "pid": 2, "ipc": 2}}}}'
    pod=$(pod host "$host")
    id=$(container "$pod" one "$host" sleep 1000)
    local kind
    for kind in net pid ipc; do
        same "the $kind namespace" "$(cri exec "$id" readlink "/proc/self/ns/$kind")" "$(readlink "/proc/self/ns/$kind")"
    done
    cri stop "$id" 0
}

case_container_mounts() {
    local pod id
    mkdir -p "$WORK/volume"
    echo outside >"$WORK/volume/file"
    pod=$(pod plain)
    id=$(container "$pod" kept "{\"mounts\": [{\"container_path\": \"/mnt/one\", \"host_path\": \"$WORK/volume\", \"readonly\": true},
        {\"container_path\": \"/mnt/two\", \"host_path\": \"$WORK/volume\"}], \"devices\": [{\"container_path\": \"/dev/nought\", \"host_path\": \"/dev/zero\", \"permissions\": \"r\"}]}" sleep 1000)
    exits 0 cri exec "$id" sh -c 'cat /mnt/one/file; touch /mnt/one/new 2>&1; echo inside >/mnt/two/file; head -c 3 /dev/nought | wc -c'
    has "what was seen" "$(tr '\n' ' ' <<<"$OUT")" '^outside .*Read-only file system 3 $'
    same "what was written" "$(<"$WORK/volume/file")" inside
}

case_pods_10_at_once() {
    local i pids=()
    for i in {1..10}; do
        (
            pod=$(pod "pod-$i") && id=$(container "$pod" main '{}' sh -c "echo from $i; exit $i")
            eventually exited "$id"
            status "$id" .exit_code >"$WORK/code-$i"
        ) &
        pids+=($!)
    done
    for i in {1..10}; do
        wait "${pids[i - 1]}" || fail "pod $i"
        same "pod $i" "$(log "pod-$i" main) $(<"$WORK/code-$i")" "from $i $i"
    done
}

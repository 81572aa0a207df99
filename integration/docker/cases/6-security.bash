# Capabilities, system call filters, privileges.

readonly DOCKER_CAPABILITIES=00000000a80425fb

status() {
    exits 0 run "$@" "$IMAGE" cat /proc/self/status
}

case_security_default() {
    status
    has "effective" "$OUT" "^CapEff:\s$DOCKER_CAPABILITIES\$"
    has "bounding" "$OUT" "^CapBnd:\s$DOCKER_CAPABILITIES\$"
    has "ambient" "$OUT" '^CapAmb:\s0+$'
    has "filter" "$OUT" '^Seccomp:\s2$'
    has "no_new_privs" "$OUT" '^NoNewPrivs:\s0$'
}

case_security_cap_drop_all() {
    status --cap-drop ALL
    has "effective" "$OUT" '^CapEff:\s0+$'
    has "bounding" "$OUT" '^CapBnd:\s0+$'
    exits 1 run --cap-drop ALL "$IMAGE" chown guest /tmp
    has "the reason" "$ERR" 'Operation not permitted'
}

case_security_cap_add() {
    status --cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add SYS_PTRACE
    has "effective" "$OUT" '^CapEff:\s0*80400$'
    exits 0 run --cap-add SYS_ADMIN "$IMAGE" mount -t tmpfs new /tmp
    exits 1 run "$IMAGE" mount -t tmpfs new /tmp
}

# The effective ones of the first 38, in a status: older Dockers know no others.
known_capabilities() {
    echo $((0x$(sed -n 's/^CapEff:\s*//p' <<<"$OUT") & ((1 << 38) - 1)))
}

case_security_cap_add_all() {
    # All but what this machine's root may lack.
    status --cap-add ALL --cap-drop SYS_RESOURCE
    same "effective" "$(known_capabilities)" $((((1 << 38) - 1) & ~(1 << 24)))
}

case_security_privileged() {
    # Of all capabilities the container gets those that this machine's root has. The specification wants no failure for
    # the others; not every runtime is of that opinion.
    local own all=$(((1 << 38) - 1))
    OUT=$(</proc/self/status)
    own=$(known_capabilities)
    if ((own != all)) && [[ $RUNTIME != procrt ]] && ! run --privileged "$IMAGE" true 2>"$WORK/refusal"; then
        cannot "$RUNTIME grants all capabilities or fails, and this machine's root lacks some: $(head -n 1 "$WORK/refusal")"
    fi
    status --privileged
    same "effective" "$(known_capabilities)" "$own"
    has "filter" "$OUT" '^Seccomp:\s0$'
    exits 0 run --privileged "$IMAGE" grep -c ' /proc[ /]' /proc/self/mountinfo
    same "mounts on and below /proc" "$OUT" 1
    exits 0 run --privileged "$IMAGE" sh -c 'mknod /kmsg c 1 11 && head -c 1 /kmsg >/dev/null && mount -t tmpfs new /tmp && test -w /proc/sys/kernel/domainname && test -e /dev/loop-control -o -e /dev/kmsg'
}

case_security_no_new_privileges() {
    status --security-opt no-new-privileges
    has "no_new_privs" "$OUT" '^NoNewPrivs:\s1$'
    has "filter" "$OUT" '^Seccomp:\s2$'
    status --security-opt no-new-privileges --cap-drop ALL --user guest
    has "filter" "$OUT" '^Seccomp:\s2$'
}

case_security_seccomp_default() {
    exits 1 run "$IMAGE" unshare -U true
    has "the reason" "$ERR" 'Operation not permitted'
    status --user guest --cap-drop ALL
    has "filter" "$OUT" '^Seccomp:\s2$'
}

case_security_seccomp_unconfined() {
    status --security-opt seccomp=unconfined
    has "filter" "$OUT" '^Seccomp:\s0$'
    exits 0 run --security-opt seccomp=unconfined "$IMAGE" unshare -U true
}

case_security_seccomp_file() {
    cat >"$WORK/profile.json" <<'JSON'
{
  "defaultAction": "SCMP_ACT_ALLOW",
  "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86"],
  "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
    {"names": ["sync"], "action": "SCMP_ACT_KILL"}
  ]
}
JSON
    exits 1 run --security-opt "seccomp=$WORK/profile.json" "$IMAGE" mkdir /new
    has "the reason" "$ERR" 'No space left on device'
    exits 159 run --security-opt "seccomp=$WORK/profile.json" "$IMAGE" sync
    exits 0 run --security-opt "seccomp=$WORK/profile.json" "$IMAGE" touch /new
}

case_security_sysctl() {
    exits 0 run --sysctl net.core.somaxconn=1234 --sysctl kernel.shm_rmid_forced=1 "$IMAGE" \
        cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced
    same "the values" "$(tr '\n' ' ' <<<"$OUT")" '1234 1 '
    hasnt "the host's" "$(cat /proc/sys/net/core/somaxconn)" '^1234$'
}

case_security_apparmor() {
    [[ -e /sys/kernel/security/apparmor ]] || cannot "this kernel has no AppArmor"
    exits 0 run "$IMAGE" cat /proc/self/attr/current
    has "Docker's own profile" "$OUT" '^docker-default \(enforce\)'
    exits 0 run --security-opt apparmor=unconfined "$IMAGE" cat /proc/self/attr/current
    has "no profile" "$OUT" '^unconfined'
}

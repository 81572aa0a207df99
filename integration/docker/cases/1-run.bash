# docker run in the foreground: output, exit status, arguments, user, environment.

case_run_output() {
    exits 0 run "$IMAGE" sh -c 'echo to-stdout; echo to-stderr >&2'
    same "standard output" "$OUT" to-stdout
    same "standard error" "$ERR" to-stderr
}

case_run_exit_status() {
    exits 0 run "$IMAGE" true
    exits 7 run "$IMAGE" sh -c 'exit 7'
}

case_run_missing_program() {
    differs crun 'its words for a program that is not there are not those that Docker looks for'
    exits 127 run "$IMAGE" no-such-program
    has "the message" "$ERR" 'no-such-program'
    exits 127 run "$IMAGE" /bin/no-such-program
}

case_run_not_executable() {
    differs crun 'its words for a program that may not be run are not those that Docker looks for'
    exits 126 run "$IMAGE" /not-executable
    has "the message" "$ERR" '[Pp]ermission denied'
    exits 126 run "$IMAGE" /etc
}

case_run_stdin() {
    local sum
    head -c 5000000 /dev/urandom >"$WORK/stdin"
    sum=$(sha256sum <"$WORK/stdin")
    exits 0 run -i "$IMAGE" sha256sum <"$WORK/stdin"
    same "the sum" "$OUT" "$sum"
    exits 0 run -i "$IMAGE" cat <<<"through the container"
    same "the echo" "$OUT" "through the container"
}

case_run_init_is_pid_1() {
    exits 0 run "$IMAGE" sh -c 'echo $$; ls -d /proc/[0-9]* | wc -l; readlink /proc/self/ns/pid'
    has "pid and number of processes" "$OUT" '^1$'
    hasnt "the pid namespace" "$OUT" "^$(readlink /proc/self/ns/pid | sed 's/[][]/\\&/g')\$"
}

case_run_workdir() {
    exits 0 run -w /tmp "$IMAGE" pwd
    same "the directory" "$OUT" /tmp
    exits 0 run -w /made/for/it "$IMAGE" pwd
    same "the directory that is made" "$OUT" /made/for/it
}

case_run_environment() {
    exits 0 run -e COLOR=blue -e 'SPACED=a b' "$IMAGE" env
    has "the environment" "$OUT" '^COLOR=blue$'
    has "the environment" "$OUT" '^SPACED=a b$'
    has "the environment" "$OUT" '^PATH=/bin$'
    has "the environment" "$OUT" '^HOME=/root$'
}

case_run_entrypoint() {
    exits 0 run --entrypoint /bin/echo "$IMAGE" one 'two  three'
    same "the arguments" "$OUT" 'one two  three'
}

case_run_user() {
    exits 0 run --user 1000:1000 "$IMAGE" sh -c 'id -u; id -g; cat /proc/self/status'
    same "ids" "$(head -n 2 <<<"$OUT" | tr '\n' ' ')" '1000 1000 '
    has "no capability is effective" "$OUT" '^CapEff:\s0+$'
    exits 0 run --user guest --group-add 77 "$IMAGE" sh -c 'id -G; echo $HOME'
    same "groups and home" "$(tr '\n' ' ' <<<"$OUT")" '1000 10 77 /home/guest '
    exits 0 run --user 4321 "$IMAGE" sh -c 'id -u; id -g'
    same "an unknown user" "$(tr '\n' ' ' <<<"$OUT")" '4321 0 '
    exits 1 run --user guest "$IMAGE" ls /root
}

case_run_hostname() {
    exits 0 run --hostname castle --domainname on.the.hill "$IMAGE" sh -c 'hostname; cat /proc/sys/kernel/domainname; cat /etc/hostname'
    same "names" "$(tr '\n' ' ' <<<"$OUT")" 'castle on.the.hill castle '
    exits 0 run --uts host "$IMAGE" hostname
    same "the host's" "$OUT" "$(hostname)"
}

case_run_init() {
    command -v docker-init >/dev/null || cannot "docker-init is not installed"
    # The orphan is the first process's child: docker-init reaps it.
    exits 9 run --init "$IMAGE" sh -c 'head -n 1 /proc/1/status; (sleep 0.1 &) ; sleep 0.5; ps -o stat | grep -c ^Z; exit 9'
    has "the first process" "$OUT" '^Name:\s(docker-init|tini)'
    has "zombies" "$OUT" '^0$'
}

case_run_refused() {
    # The engine passes it on, the runtime refuses it, and the engine shows the runtime's reason.
    exits 125 run -v "$WORK/client:/proc/inside" "$IMAGE" true
    has "the reason" "$ERR" 'OCI runtime create failed: .*/proc/inside'
}

case_run_50_at_once() {
    one() { docker run --rm --name "at-once-$1" "$IMAGE" sh -c "echo from $1; exit $1"; }
    at_once 50 one
}

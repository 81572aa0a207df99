# docker run -t and docker attach, under a terminal.

case_terminal_devices() {
    terminal 0 -- docker run --rm -it "$IMAGE" sh -c 'tty; ls -l /dev/pts/0 /dev/console; echo to the console >/dev/console'
    has "the name" "$OUT" '^/dev/pts/0'
    # Both are the same slave: major number 136.
    has "the terminal" "$OUT" '^c.* 136, *[0-9]+ .*/dev/pts/0'
    has "the console" "$OUT" '^c.* 136, *[0-9]+ .*/dev/console'
    has "what is written to the console" "$OUT" '^to the console'
}

case_terminal_exit_status() {
    differs crun 'its words for a program that is not there are not those that Docker looks for'
    terminal 0 -- docker run --rm -it "$IMAGE" true
    terminal 42 -- docker run --rm -it "$IMAGE" sh -c 'exit 42'
    terminal 127 -- docker run --rm -it "$IMAGE" no-such-program
}

case_terminal_conversation() {
    terminal 3 expect:'# ' send:'echo $((6*7))\r' expect:'\n42\r' send:'id -u\r' expect:'\n0\r' send:'exit 3\r' \
        -- docker run --rm -it "$IMAGE" sh
}

case_terminal_size() {
    # The first size arrives a moment after the program begins.
    terminal 0 size:33x111 expect:'# ' send:'sleep 0.5; stty size\r' expect:'33 111' \
        size:40x120 send:'sleep 0.5; stty size\r' expect:'40 120' send:'exit 0\r' \
        -- docker run --rm -it "$IMAGE" sh
}

case_terminal_interrupt() {
    terminal 130 expect:'# ' send:'echo go; sleep 100\r' expect:'\ngo' send:'\x03' expect:'# ' send:'exit\r' \
        -- docker run --rm -it "$IMAGE" sh
}

case_terminal_job_control() {
    terminal 0 expect:'# ' send:'sh -c "echo go; exec sleep 100"\r' expect:'\ngo' send:'\x1a' expect:'Stopped' send:'kill -9 %1; sleep 0.3; jobs\r' expect:'Killed' send:'exit 0\r' \
        -- docker run --rm -it "$IMAGE" sh
    hasnt "the shell's complaint" "$OUT" 'job control turned off'
}

case_terminal_of_a_user() {
    terminal 0 -- docker run --rm -it --user guest "$IMAGE" sh -c 'echo by its name >"$(tty)"'
    has "what the user writes" "$OUT" '^by its name'
}

case_terminal_much_output() {
    terminal 0 -- docker run --rm -it "$IMAGE" sh -c 'seq 1 20000; echo the end'
    has "the end" "$OUT" '^the end'
    same "lines" "$(grep -c '^[0-9]' <<<"$OUT")" 20000
}

case_terminal_detach_and_attach() {
    docker run -d -it --name attached "$IMAGE" sh >/dev/null
    # Docker's client says by its status that it detached, or not: that depends on its version.
    terminal '@(0|1)' send:'echo in $((1+1))\r' expect:'in 2' send:'\x10\x11' -- docker attach attached
    is attached '{{.State.Running}}' true || fail "it does not run after detaching"
    terminal 5 send:'echo again $((2+2))\r' expect:'again 4' send:'exit 5\r' -- docker attach attached
    same "its status" "$(inspect attached '{{.State.Status}} {{.State.ExitCode}}')" 'exited 5'
}

case_terminal_client_killed() {
    docker run -d -it --name orphan "$IMAGE" sh >/dev/null
    terminal '*' send:'echo here\r' expect:'\nhere' close -- docker attach orphan
    is orphan '{{.State.Running}}' true || fail "it ended with its client"
}

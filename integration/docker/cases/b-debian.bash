# Docker with Debian's userland: what shells, package managers and an init of other people's making expect of a machine.

deb() {
    docker run --rm -v "$WORK/repository:/repository:ro" "$@"
}

case_debian_login_shell() {
    exits 0 run "$DEBIAN_IMAGE" bash -lc 'shopt -q login_shell && echo $PATH && cd ~ && pwd'
    same "of root" "$(tr '\n' ' ' <<<"$OUT")" '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root '
    exits 0 run --user guest "$DEBIAN_IMAGE" bash -lc 'echo $PATH; cd ~; pwd; ulimit -u >/dev/null && umask'
    same "of a user" "$(tr '\n' ' ' <<<"$OUT")" '/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games /home/guest 0022 '
    # Job control, and a login from root's shell.
    terminal 4 expect:'# ' send:'sleep 100 & sh -c "echo go; exec sleep 101"\r' expect:'[\r\n]go' send:'\x1a' expect:'Stopped' \
        send:'kill %1 %2; fg %2; su - guest\r' expect:'guest@' send:'tty; echo $((6*7)) $USER\r' expect:'42 guest' \
        send:'exit\r' expect:'# ' send:'exit 4\r' -- docker run --rm -it "$DEBIAN_IMAGE" bash -l
    hasnt "the shell's complaint" "$OUT" 'no job control|cannot set terminal'
}

case_debian_dpkg() {
    exits 0 deb "$DEBIAN_IMAGE" sh -ec 'dpkg -i /repository/greeting_1.0_all.deb >&2; greeting; greeter-id -un; getcap /usr/bin/greeter-chown
        dpkg --verify greeting; dpkg -r greeting >&2; test ! -e /usr/bin/greeting; ! id greeter 2>/dev/null'
    same "the programs" "$(tr '\n' ' ' <<<"$OUT")" 'greetings to root greeter /usr/bin/greeter-chown cap_chown=ep '
}

case_debian_apt() {
    # apt fetches as a user of its own, and gives its children terminals.
    exits 0 deb "$DEBIAN_IMAGE" sh -ec "$SOURCES; apt-get -y install greeting 2>&1; greeting"
    has "what was installed" "$OUT" '^Setting up greeting \(1\.0\)'
    has "the program" "$OUT" '^greetings to root$'
    hasnt "warnings" "$OUT" '^[WE]:|failed|Failed'
    terminal 0 -- docker run --rm -it -v "$WORK/repository:/repository:ro" "$DEBIAN_IMAGE" \
        sh -ec "$SOURCES; apt-get -y install greeting; greeting"
    has "on a terminal" "$OUT" '^greetings to root'
}

case_debian_set_user_id() {
    printf 'FROM %s\nCOPY *.deb /\nRUN dpkg -i /*.deb\n' "$DEBIAN_IMAGE" >"$WORK/repository/Dockerfile"
    DOCKER_BUILDKIT=0 exits 0 docker build -q -t procrt-suid "$WORK/repository"
    local both='id -un; greeter-id -un; greeter-id -gn; touch /tmp/file; greeter-chown root /tmp/file 2>/dev/null; stat -c %U /tmp/file; echo castle | su -c "id -u" 2>/dev/null'
    exits 0 run --user guest procrt-suid bash -c "$both"
    same "the user, the programs' users, a file's" "$(tr '\n' ' ' <<<"$OUT")" 'guest greeter greeter root 0 '
    exits 1 run --user guest --security-opt no-new-privileges procrt-suid bash -c "$both"
    same "without new privileges" "$(tr '\n' ' ' <<<"$OUT")" 'guest guest guest guest '
    # What is not in the bounding set, a file's capability cannot give.
    exits 126 run --user guest --cap-drop CHOWN procrt-suid bash -c 'touch /tmp/file; greeter-chown root /tmp/file'
    docker rmi -f procrt-suid >/dev/null
}

case_debian_build() {
    cat >"$WORK/repository/Dockerfile" <<DOCKERFILE
FROM $DEBIAN_IMAGE
COPY . /repository
RUN $SOURCES
RUN apt-get -y install greeting && rm -rf /var/lib/apt/lists/*
ENV LC_ALL=C.UTF-8
USER greeter
RUN greeting >/tmp/greeting && bash -c 'x=über; echo \${#x}' >>/tmp/greeting
CMD ["cat", "/tmp/greeting"]
DOCKERFILE
    DOCKER_BUILDKIT=0 exits 0 docker build -q -t procrt-greeting "$WORK/repository"
    exits 0 run procrt-greeting
    same "what the steps left" "$(tr '\n' ' ' <<<"$OUT")" 'greetings to greeter 4 '
    docker rmi -f procrt-greeting >/dev/null
}

case_debian_commit() {
    exits 0 docker run --name installed -v "$WORK/repository:/repository:ro" "$DEBIAN_IMAGE" dpkg -i /repository/greeting_1.0_all.deb
    exits 0 docker commit -c 'USER greeter' -c 'CMD ["greeting"]' installed procrt-committed
    exits 0 run procrt-committed
    same "the output" "$OUT" 'greetings to greeter'
    # Set-user-id bits and capabilities of files are in the image.
    exits 0 run --user guest procrt-committed sh -c 'greeter-id -un; touch /tmp/file; greeter-chown root /tmp/file; stat -c %U /tmp/file'
    same "the programs" "$(tr '\n' ' ' <<<"$OUT")" 'greeter root '
    docker rm installed >/dev/null
    docker rmi -f procrt-committed >/dev/null
}

case_debian_perl_and_python() {
    exits 0 run "$DEBIAN_IMAGE" perl -e 'pipe(R, W); if (!fork) { print W getpwuid($<) . " $$\n"; exit } wait; print scalar <R>; kill USR1 => $$ if $SIG{USR1} = sub { print "told\n" }; print `echo from a shell`'
    has "perl" "$(tr '\n' ' ' <<<"$OUT")" '^root [0-9]+ told from a shell $'
    # Threads, a terminal of its own, a file in shared memory, a socket pair, signals and randomness.
    exits 0 run --user guest -i "$DEBIAN_IMAGE" python3 - <<'PYTHON'
import os, pwd, signal, socket, sys, threading, time
total = []
threads = [threading.Thread(target=lambda n=n: total.append(n)) for n in range(50)]
[t.start() for t in threads], [t.join() for t in threads]
leader, follower = os.openpty()
os.write(leader, b"line\n")
shared = os.open("/dev/shm/shared", os.O_RDWR | os.O_CREAT)
one, other = socket.socketpair()
pid = os.fork()
if pid == 0:
    os.write(shared, b"kept")
    other.send(os.read(follower, 100))
    signal.pause()
said = one.recv(100)
os.kill(pid, signal.SIGTERM)
status = os.waitstatus_to_exitcode(os.wait()[1])
time.sleep(0.01)
print(sum(total), os.ttyname(follower), os.pread(shared, 4, 0).decode(), said, status, pwd.getpwuid(os.getuid()).pw_name, len(os.urandom(8)),
      len(os.sched_getaffinity(0)) == os.sysconf("SC_NPROCESSORS_ONLN") or "limited", sys.getfilesystemencoding())
PYTHON
    has "python" "$OUT" "^1225 /dev/pts/0 kept b'line\\\\n' -15 guest 8 (True|limited) utf-8\$"
}

# Debian's older init, with what it starts: a service that is begun again when it dies, and a way to end.
case_debian_init() {
    cat >"$WORK/inittab" <<'INITTAB'
id:2:initdefault:
si::sysinit:/bin/sh -c 'echo booted; date +%s >/run/booted'
sv:2:respawn:/bin/sh -c 'echo served; exec sleep 1000'
ca:2:ctrlaltdel:/bin/sh -c 'echo asked to end >/proc/1/fd/1; exec /sbin/halt -d -f -p'
INITTAB
    docker run -d --name machine --stop-signal INT --cap-add SYS_BOOT -v "$WORK/inittab:/etc/inittab:ro" "$DEBIAN_IMAGE" /sbin/init >/dev/null
    eventually docker exec machine pgrep -x sleep
    exits 0 docker exec machine ps -o comm= -p 1
    same "the first process" "$OUT" init
    local first
    first=$(docker exec machine pgrep -x sleep)
    exits 0 docker exec machine runlevel
    same "the run level" "$OUT" 'N 2'
    exits 0 docker exec machine pkill -x sleep
    eventually docker exec machine bash -c "now=\$(pgrep -x sleep) && [[ \$now != $first ]]"
    # Orphans are its children, and it buries them.
    exits 0 docker exec machine sh -c '(sleep 0.1 &)'
    sleep 0.4
    same "zombies" "$(docker exec machine ps -eo stat= | grep -c ^Z || true)" 0
    # It ends by reboot(2), with which the kernel ends the pid namespace by SIGINT.
    exits 0 docker stop -t 10 machine
    same "its status" "$(inspect machine '{{.State.Status}} {{.State.ExitCode}}')" 'exited 130'
}

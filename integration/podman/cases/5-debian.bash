# Podman with Debian's userland.

case_debian_apt() {
    exits 0 run -v "$WORK/repository:/repository:ro" "$DEBIAN_IMAGE" sh -ec "$SOURCES; apt-get -y install greeting 2>&1; greeting"
    has "the program" "$OUT" '^greetings to root$'
    hasnt "warnings" "$OUT" '^[WE]:|failed|Failed'
}

case_debian_login_shell() {
    terminal 4 expect:'# ' send:'sh -c "echo go; exec sleep 101"\r' expect:'[\r\n]go' send:'\x1a' expect:'Stopped' \
        send:'kill %1; fg; su - guest\r' expect:'guest@' send:'tty; echo $((6*7)) $USER\r' expect:'42 guest' \
        send:'exit\r' expect:'# ' send:'exit 4\r' -- podman run --rm -it "${PARENT[@]}" "$DEBIAN_IMAGE" bash -l
    hasnt "the shell's complaint" "$OUT" 'no job control|cannot set terminal'
}

case_debian_user_namespace() {
    # apt's own user, set-user-id programs and files' capabilities, with ids that are others outside.
    exits 0 run --uidmap 0:100000:65536 --gidmap 0:100000:65536 -v "$WORK/repository:/repository:ro" "$DEBIAN_IMAGE" sh -ec \
        "$SOURCES; apt-get -y install greeting >&2; greeter-id -un; su guest -c 'greeter-id -un; touch /tmp/file; greeter-chown root /tmp/file; stat -c %U /tmp/file'"
    same "the programs" "$(tr '\n' ' ' <<<"$OUT")" 'greeter greeter root '
}

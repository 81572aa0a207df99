# containerd with Debian's userland.

case_debian_apt() {
    IMAGE=$DEBIAN_IMAGE
    exits 0 run packages --mount "type=bind,src=$WORK/repository,dst=/repository,options=rbind:ro" -- \
        sh -ec "$SOURCES; apt-get -y install greeting 2>&1; greeting; su guest -c 'greeter-id -un'"
    # ctr has its containers without new privileges.
    has "the programs" "$(tr '\n' ' ' <<<"$OUT")" 'greetings to root guest $'
    hasnt "warnings" "$OUT" '^[WE]:|failed|Failed'
}

case_debian_exec_a_login_shell() {
    IMAGE=$DEBIAN_IMAGE
    background machine -- sleep 1000
    terminal 4 expect:'# ' send:'sh -c "echo go; exec sleep 101"\r' expect:'[\r\n]go' send:'\x1a' expect:'Stopped' \
        send:'kill %1; fg; su - guest\r' expect:'guest@' send:'tty; echo $((6*7)) $USER\r' expect:'42 guest' \
        send:'exit\r' expect:'# ' send:'exit 4\r' -- ctr task exec -t --exec-id login machine bash -l
    hasnt "the shell's complaint" "$OUT" 'no job control|cannot set terminal'
}

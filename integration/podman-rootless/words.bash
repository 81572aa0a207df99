# What a plain user's Podman says: as root's, but that containers may have no control groups.
# shellcheck source=integration/podman/words.bash
source "$HERE/podman/words.bash"

# shellcheck disable=SC1090
source <(sed -n '/^engine_uids=/p' "$HERE/$ENGINE/engine.bash")

PARENT=()
PLACE=${WORK-}/user
runtime() {
    podman unshare "$RUNTIME_FILE" "$@"
}
with_control_groups() {
    cannot "a plain user's containers have no control groups here: version 1, where Podman asks for none"
}

# Pods: containers around an infra container, and from Kubernetes' files.

pod() { # NAME [OPTION…]
    podman pod create "${PARENT[@]}" --name "$@" >/dev/null
}

case_pod_shares() {
    pod together --hostname castle
    podman run -d --pod together --name one "$IMAGE" sh -c 'while :; do echo hello | nc -l -p 80; done' >/dev/null
    exits 0 podman run --rm --pod together "$IMAGE" sh -c 'nc -w 5 127.0.0.1 80; hostname'
    same "over the loopback" "$(tr '\n' ' ' <<<"$OUT")" 'hello castle '
    same "containers" "$(podman pod inspect together --format '{{.NumContainers}}')" 2
    local infra one
    infra=$(inspect "$(podman pod inspect together --format '{{.InfraContainerID}}')" '{{.State.Pid}}')
    one=$(inspect one '{{.State.Pid}}')
    local kind
    for kind in net ipc uts; do
        same "the $kind namespace" "$(readlink "/proc/$one/ns/$kind")" "$(readlink "/proc/$infra/ns/$kind")"
    done
    exits 0 podman pod rm -f -t 0 together
}

case_pod_pids() {
    pod together --share net,pid,ipc
    podman run -d --pod together --name one "$IMAGE" sleep 2000 >/dev/null
    exits 0 podman run --rm --pod together "$IMAGE" ps
    has "the other's process" "$OUT" 'sleep 2000'
    has "the infra container's" "$OUT" 'sleep 1000000'
}

case_pod_life() {
    pod together
    podman create --pod together --name one "$IMAGE" sleep 1000 >/dev/null
    podman create --pod together --name two "$IMAGE" sleep 1000 >/dev/null
    exits 0 podman pod start together
    same "both" "$(inspect one '{{.State.Status}}') $(inspect two '{{.State.Status}}')" 'running running'
    exits 0 podman pod stop -t 0 together
    same "both" "$(inspect one '{{.State.Status}}') $(inspect two '{{.State.Status}}')" 'exited exited'
    exits 0 podman pod restart together
    same "both" "$(inspect one '{{.State.Status}}') $(inspect two '{{.State.Status}}')" 'running running'
    exits 0 podman pod kill together
    exits 0 podman pod rm -f -t 0 together
}

case_pod_pause() {
    with_control_groups
    pod together
    podman run -d --pod together --name one "$IMAGE" sleep 1000 >/dev/null
    podman run -d --pod together --name two "$IMAGE" sleep 1000 >/dev/null
    exits 0 podman pod pause together
    same "both" "$(inspect one '{{.State.Status}}') $(inspect two '{{.State.Status}}')" 'paused paused'
    exits 0 podman pod unpause together
    same "both" "$(inspect one '{{.State.Status}}') $(inspect two '{{.State.Status}}')" 'running running'
}

case_pod_kube_play_with_limits() {
    with_control_groups
    kube_play 'resources: { limits: { memory: 64Mi } }'
}

case_pod_kube_play() {
    kube_play
}

kube_play() { # [LINE]: of a container
    local limits=${1-}

    cat >"$WORK/pod.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata: { name: played }
spec:
  hostname: stage
  restartPolicy: Never
  volumes:
    - name: shared
      emptyDir: {}
  containers:
    - name: writer
      image: $IMAGE
      imagePullPolicy: Never
      command: [sh, -c, "echo from \$WHO >/shared/file; sleep 1000"]
      env: [{ name: WHO, value: writer }]
      volumeMounts: [{ name: shared, mountPath: /shared }]
      $limits
      securityContext: { runAsUser: 0, capabilities: { drop: [ALL] } }
    - name: reader
      image: $IMAGE
      imagePullPolicy: Never
      command: [sh, -c, "until cat /shared/file; do sleep 0.1; done; hostname; sleep 1000"]
      volumeMounts: [{ name: shared, mountPath: /shared }]
YAML
    exits 0 podman kube play "$WORK/pod.yaml"
    eventually logs_have played-reader stage
    same "what the other wrote" "$(podman logs played-reader 2>/dev/null | tr '\n' ' ')" 'from writer stage '
    exits 0 podman exec played-writer grep CapEff /proc/self/status
    has "no capabilities" "$OUT" ' *0{16}$'
    exits 0 podman kube generate played
    has "and back again" "$OUT" 'kind: Pod'
    exits 0 podman kube down "$WORK/pod.yaml"
    podman volume rm -a -f >/dev/null
}

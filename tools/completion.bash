# For the functions that shtab makes: WORD [DIRECTORY], the directory that has migrations' records. Who calls has a
# newline in IFS.

# Profiles and plans.
_criu_lazy_yaml() {
  compgen -f -X '!*.y*ml' -- "$1"
  compgen -d -- "$1"
}

# Hosts as ssh knows them, by bash-completion.
_criu_lazy_hosts() {
  local IFS=$' \t\n' COMPREPLY=()
  declare -F _known_hosts_real >/dev/null && _known_hosts_real -a -- "$1" 2>/dev/null
  printf '%s\n' "${COMPREPLY[@]}"
}

_criu_lazy_profiles_and_hosts() {
  _criu_lazy_yaml "$1"
  _criu_lazy_hosts "$1"
}

# Containers that run; what podman's runtime has of them goes by podman's names.
_criu_lazy_containers() {
  compgen -W "$({ podman ps --format '{{.Names}}'; runc list -q; crun list -q; ctr containers ls -q; } 2>/dev/null |
    grep -Evx '[0-9a-f]{64}|[0-9a-f]{12}-infra')" -- "$1"
}

# Migrations that `criu-lazy cancel` stops: a process has their lock (migration/lock.py), and is no evacuation or dry run.
_criu_lazy_under_way() {
  local lock pid names=
  for lock in "${2:-/var/lib/criu-lazy}"/*.lock; do
    [[ -r $lock ]] && read -r pid <"$lock" && [[ -r /proc/$pid/cmdline ]] || continue
    grep -qzx -e evacuate -e --dry-run "/proc/$pid/cmdline" && continue
    lock=${lock##*/}
    names+=${lock%.lock}$'\n'
  done
  compgen -W "$names" -- "$1"
  _criu_lazy_yaml "$1"  # or its profile
}

# Those that `criu-lazy report` has a run file of.
_criu_lazy_runs() {
  local runs names=
  for runs in "${2:-/var/lib/criu-lazy}"/*.runs; do
    [[ -d $runs ]] || continue
    runs=${runs##*/}
    names+=${runs%.runs}$'\n'
  done
  compgen -W "$names" -- "$1"
  compgen -f -- "$1"
}

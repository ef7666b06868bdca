# Names of migrations, for the functions that shtab makes: WORD [DIRECTORY], the directory that has
# their records. Who calls has a newline in IFS.

# Those that `criu-lazy cancel` stops: a process has their lock (migration/lock.py), and is no evacuation or dry run.
_criu_lazy_under_way() {
  local lock pid names=
  for lock in "${2:-/var/lib/criu-lazy}"/*.lock; do
    [[ -r $lock ]] && read -r pid <"$lock" && [[ -r /proc/$pid/cmdline ]] || continue
    grep -qzx -e evacuate -e --dry-run "/proc/$pid/cmdline" && continue
    lock=${lock##*/}
    names+=${lock%.lock}$'\n'
  done
  compgen -W "$names" -- "$1"
  compgen -f -- "$1"  # or its profile
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

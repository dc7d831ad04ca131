# shellcheck shell=bash
# Sourced: how many cores a process may use, as core/base/threads.h counts them. A container's limit is a quota of CPU
# time, which nproc does not show; nproc in turn follows OMP_NUM_THREADS.
#   cpu_quota [ROOT]   the tightest quota of this process's cgroups (versions 1 and 2), in CPUs, rounded up; nothing
#                      without one. ROOT stands before /proc and /sys (a test's own tree)
#   cores              the smaller of the CPUs that this process may run on and its quota

# quota_in FOLDER: one cgroup's quota in CPUs, rounded up.
quota_in() {
  local quota='' period=''
  if [ -r "$1/cpu.max" ]; then
    read -r quota period <"$1/cpu.max" || true
  elif [ -r "$1/cpu.cfs_quota_us" ] && [ -r "$1/cpu.cfs_period_us" ]; then
    read -r quota <"$1/cpu.cfs_quota_us" || true
    read -r period <"$1/cpu.cfs_period_us" || true
  fi
  case "$quota/$period" in
    */ | /* | *[!0-9/]* | 0/* | */0) ;;
    *) echo $(((quota + period - 1) / period)) ;;
  esac
}

cpu_quota() {
  local root=${1:-} version point top below quota tightest=
  for version in cgroup cgroup2; do
    point='' top=''
    read -r point top < <(awk -v version="$version" '{
      for (i = 7; i <= NF && $i != "-"; i++) continue
      if ($(i + 1) == version && (version == "cgroup2" || index("," $(i + 3) ",", ",cpu,"))) { print $5, $4; exit }
    }' "$root/proc/self/mountinfo" 2>/dev/null) || true
    [ -n "$point" ] || continue
    point=$(printf %b "$point") top=$(printf %b "$top") # the kernel writes a blank as \040
    below=$(awk -F: -v version="$version" '(version == "cgroup2" ? $2 == "" : index("," $2 ",", ",cpu,")) {
      sub(/^[^:]*:[^:]*:/, ""); print; exit }' "$root/proc/self/cgroup" 2>/dev/null) || true
    # A container may be named as its host sees it, outside of what is mounted.
    if [ "$top" != / ]; then
      case "$below/" in "$top"/*) below=${below#"$top"} ;; *) below='' ;; esac
    fi
    case "$below" in */..*) below='' ;; esac
    while :; do
      below=${below%/}
      quota=$(quota_in "$root$point$below")
      if [ -n "$quota" ] && { [ -z "$tightest" ] || [ "$quota" -lt "$tightest" ]; }; then tightest=$quota; fi
      [ -n "$below" ] || break
      below=${below%/*}
    done
  done
  [ -z "$tightest" ] || echo "$tightest"
}

cores() {
  local count quota
  count=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 1)
  quota=$(cpu_quota)
  if [ -n "$quota" ] && [ "$quota" -lt "$count" ]; then count=$quota; fi
  echo "$count"
}

#!/usr/bin/env bash
# Starts `fwl` on several ranks of this machine or of the hosts of a hostfile, after checking that they fit together.
#
#   launch/mpirun.sh [-n RANKS] [--hostfile FILE] [--no-check] [--dry-run] COMMAND [ARGUMENTS]...
#   launch/mpirun.sh -n 4 train launch/configs/small.yaml --set data.path=data
#   launch/mpirun.sh --hostfile hosts doctor
#
# RANKS defaults to the hostfile's slots, or to this machine's GPUs (without a GPU: 1). A hostfile has lines like
# "node1 slots=8", and whatever else Open MPI reads there; lines may end as Windows ends them. Each rank takes the GPU of
# its number on the host and its share of the cores (launch/bind_rank.sh).
# Before COMMAND starts, `fwl doctor --quick` (of train: `fwl train --doctor`, with its config) compares program, config and
# libraries of all ranks, tries ports, GPUs and the shared folder, and prints a table of rank, host, GPU, cores and NUMA
# node; a failed check ends the start.
# SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 reach all ranks as SIGUSR1 (save and end with 75); a second one ends them at
# once.
#
# Environment: FWL (program, default build/bin/fwl), FWL_INTERFACE (network interface between hosts, e.g. ib0 or eth1; default:
# all but loopback and bridges of containers), FWL_MPIRUN (default mpirun), FWL_BIND=none. Passed on to all hosts:
# LD_LIBRARY_PATH, CUDA_DEVICE_ORDER and every exported variable that begins with FWL_, HDF5_, NCCL_, UCX_, FI_, OMP_, GOMP_, KMP_, MKL_,
# TORCH_, PYTORCH_, OMPI_MCA_, PMIX_MCA_ or PRTE_MCA_. Open MPI's parameters that are set there, or in its files of parameters
# (~/.openmpi/mca-params.conf), are not set again here.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# ---- signals. mpirun would kill the ranks one second after a SIGTERM or SIGINT; SIGUSR1 it passes on.

signals=0 pid='' checking='' interrupted=''
# Repeated: mpirun and the ranks ignore the signal until they have their handlers.
ask_to_save() {
  while kill -USR1 "$pid" 2>/dev/null; do sleep 2; done >/dev/null 2>&1 </dev/null &
}
pass_on() {
  signals=$((signals + 1)) interrupted=1
  if ((signals > 1)) || [[ -n $checking ]]; then
    if [[ -n $pid ]]; then kill -TERM "$pid" 2>/dev/null || true; fi
  elif [[ -n $pid ]]; then
    echo "launch/mpirun.sh: asking all ranks to save and end (once more ends them at once)" >&2
    ask_to_save
  fi
}
trap pass_on INT TERM HUP USR1 USR2
end_if_asked() {
  ((signals > 0)) || return 0
  echo "launch/mpirun.sh: asked to end before anything was started. Start again to go on." >&2
  exit 75
}

usage_error() {
  end_if_asked # the signal may have ended what failed
  printf 'error: %s\n' "$*" >&2
  exit 2
}

ranks='' hostfile='' check=1 dry_run=
while (($# > 0)); do
  case $1 in
    -n | -np | --hostfile)
      (($# > 1)) || usage_error "$1 needs a value. See launch/mpirun.sh --help."
      if [[ $1 == --hostfile ]]; then hostfile=$2; else ranks=$2; fi
      shift 2
      ;;
    --hostfile=*) hostfile=${1#*=} && shift ;;
    --no-check) check='' && shift ;;
    --dry-run) dry_run=1 && shift ;;
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;;
    -*) usage_error "unknown option $1 (options of fwl come after its command). See launch/mpirun.sh --help." ;;
    *) break ;;
  esac
done
(($# > 0)) || usage_error "no command was given (there is nothing to start). Give one, for example: train CONFIG.yaml"
[[ -z $ranks || $ranks =~ ^[1-9][0-9]{0,6}$ ]] || usage_error "-n '$ranks' is no number of ranks. Give 1 or more."
program=${FWL:-$here/../build/bin/fwl}
if [[ -z ${FWL:-} && ! -e $program && -e $here/../../../bin/fwl ]]; then program=$here/../../../bin/fwl; fi  # cmake --install
fwl=$(realpath "$program" 2>/dev/null || true)
[[ -x $fwl && ! -d $fwl ]] || usage_error "'$program' does not exist or is no program. Build it, or set FWL."
mpirun=${FWL_MPIRUN:-mpirun}
command -v "$mpirun" >/dev/null || usage_error "'$mpirun' was not found (it starts the ranks). Install Open MPI, or set FWL_MPIRUN."

# ---- the hostfile

# read_hostfile <FILE: "slots N" (all slots; without N when a line leaves them to Open MPI), or "problem TEXT". Open MPI's own
# grammar: HOST KEY=VALUE..., comments as in shell, C and C++, hosts to leave out (^HOST), hosts by number (+n0, +e:2).
read_hostfile() {
  awk '
    function problem(text) { print "problem line " NR ": " text; bad = 1; exit }
    function without_comments(line,   at, end) {
      if (inside) { end = index(line, "*/"); if (!end) return ""; line = substr(line, end + 2); inside = 0 }
      while ((at = index(line, "/*")) && !(match(line, /#|\/\//) && RSTART < at)) {
        end = index(substr(line, at + 2), "*/")
        if (!end) { inside = 1; return substr(line, 1, at - 1) }
        line = substr(line, 1, at - 1) " " substr(line, at + 2 + end + 1)
      }
      sub(/(#|\/\/).*/, "", line)
      return line
    }
    {
      line = without_comments($0)
      gsub(/=/, " = ", line)
      sub(/^[ \t\f\v]+/, "", line)
      count = split(line, word, /[ \t\f\v]+/)
      if (count && word[count] == "") count--
      if (!count) next
      hosts++
      host = word[1]
      sub(/^[^@]*@/, "", host)
      if (host ~ /^\^/) { hosts--; next }
      if (host ~ /^[^:+]+:[0-9]+$/) {
        port = host; sub(/.*:/, "", port); sub(/:.*/, "", host)
        problem("\047" host ":" port "\047 is the form of \047mpirun --host\047, which no hostfile takes. Write \047" host " slots=" port "\047.")
      }
      if (host ~ /\[/) problem("\047" host "\047 is a list of hosts in short form. Write one host a line (scontrol show hostnames \047" host "\047).")
      if (host ~ /,/) problem("\047" host "\047 names several hosts. Write one host a line.")
      if (host !~ /^[A-Za-z0-9_.-]+$/ && host !~ /^[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f.]*$/ && host !~ /^\+(n[0-9]+|[eE](:[0-9]+)?)$/)
        problem("\047" host "\047 is no name of a host. Write lines like \047node1 slots=8\047.")
      mine = most = given = 0
      for (i = 2; i <= count; i += 3) {
        key = word[i]; value = word[i + 2]
        if (word[i + 1] != "=" || i + 2 > count)
          problem("\047" key "\047 is no KEY=VALUE. Write one host a line, like \047" host " slots=8\047.")
        if (key ~ /^(slots|count|cpu|(slots|cpu|count)[-_]max|max[-_](slots|cpu|count))$/) {
          if (value !~ /^[0-9]+$/) problem(key "=" value " is no number. Write lines like \047" host " slots=8\047.")
        } else if (key !~ /^user[-_]?name$/) {
          problem("Open MPI knows no \047" key "\047 of a host. Write lines like \047" host " slots=8\047.")
        }
        if (key ~ /^(slots|count|cpu)$/) {
          if (given) problem("slots are given twice. Give them once.")
          mine = value; given = 1
        }
        if (key ~ /max/) most = value
      }
      if (most && given && most < mine) problem("max_slots=" most " is below slots=" mine ". Correct one of them.")
      if (given) slots += mine; else if (most) slots += most; else unknown = 1
    }
    END { if (bad) exit; if (!hosts) print "problem it names no host. Write lines like \047node1 slots=8\047."
      else if (unknown) print "slots"; else if (!slots) print "problem its hosts have no slot (slots=0). Write lines like \047node1 slots=8\047."
      else print "slots " slots }'
}
as_unix_text() { LC_ALL=C sed -e '1s/^\xef\xbb\xbf//' -e 's/\r$//' "$1" | tr '\r' '\n'; }

given_hostfile=$hostfile temporary='' slots=''
trap '[[ -z $temporary ]] || rm -f "$temporary"' EXIT
if [[ -n $hostfile ]]; then
  [[ ! -d $hostfile ]] || usage_error "hostfile '$hostfile' is a folder. Give a file with lines like 'node1 slots=8'."
  [[ -r $hostfile ]] || usage_error "hostfile '$hostfile' cannot be read. Check the path."
  temporary=$(mktemp)
  as_unix_text "$hostfile" >"$temporary"
  read -r kind slots < <(read_hostfile <"$temporary") || usage_error "hostfile '$hostfile' cannot be read. Check the path."
  [[ $kind == slots ]] || usage_error "hostfile '$hostfile': $slots"
  [[ -z $ranks || -z $slots ]] || ((ranks <= slots)) ||
    usage_error "-n $ranks is more than the $slots slots of '$hostfile' (each rank takes one). Raise slots= there, or lower -n."
  # Open MPI takes neither a carriage return nor a byte order mark, and a pipe can be read once.
  if [[ ! -f $hostfile ]] || ! cmp -s "$hostfile" "$temporary"; then hostfile=$temporary; fi
fi

# ---- what Open MPI and NCCL need

flags=(--bind-to none)
if [[ -z $ranks && -z $hostfile ]]; then
  ranks=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
  if ((ranks == 0)); then ranks=1; fi
fi
if [[ -n $ranks ]]; then flags+=(-n "$ranks"); fi
# On one machine the ranks are counted by the user, not by mpirun's idea of slots.
if [[ -n $hostfile ]]; then flags+=(--hostfile "$hostfile"); else flags+=(--oversubscribe --host "localhost:${ranks}"); fi
if [[ $(id -u) == 0 ]]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
# Containers forbid reading another process's memory; Open MPI then fails or warns at every message.
if [[ -e /.dockerenv || -e /run/.containerenv ]]; then
  export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
fi
# parameter_files: Open MPI's own, of the user and of the machine: those of $OMPI_MCA_mca_base_param_files (or its older name),
# else ~/.openmpi/mca-params.conf and the installation's.
parameter_files() {
  local listed=${OMPI_MCA_mca_base_param_files:-${OMPI_MCA_mca_param_files:-}} prefix
  prefix=$(dirname "$(dirname "$(realpath "$(command -v "$mpirun")")")")
  if [[ -n $listed ]]; then
    tr ',:' '\n\n' <<<"$listed"
  else
    printf '%s\n' "${HOME:-}/.openmpi/mca-params.conf" "$prefix/etc/openmpi-mca-params.conf" /etc/openmpi/openmpi-mca-params.conf
  fi
  printf '%s\n' "${OMPI_MCA_mca_base_override_param_file:-}"
}
# sets_interfaces LAYER: whether the user, by a variable, or a parameter file says which interfaces a layer takes.
sets_interfaces() {
  local include=OMPI_MCA_$1_if_include exclude=OMPI_MCA_$1_if_exclude file
  [[ -z ${!include:-}${!exclude:-} ]] || return 0
  while IFS= read -r file; do
    if [[ -f $file && -r $file ]] && grep -qE "^[[:blank:]]*$1_if_(include|exclude)[[:blank:]]*=" "$file"; then return 0; fi
  done < <(parameter_files)
  return 1
}
# choose_interfaces HOW NAMES: include or exclude, for MPI's messages and its start; Open MPI refuses both words at once, and
# the user's own word counts.
choose_interfaces() {
  local layer
  for layer in btl_tcp oob_tcp; do
    if ! sets_interfaces "$layer"; then
      flags+=(--mca "${layer}_if_$1" "$2")
    elif [[ -n ${FWL_INTERFACE:-} ]]; then
      echo "launch/mpirun.sh: FWL_INTERFACE does not change ${layer}_if_*, which a variable or a file of Open MPI sets" >&2
    fi
  done
}
if [[ -n ${FWL_INTERFACE:-} ]]; then
  choose_interfaces include "$FWL_INTERFACE"
  export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$FWL_INTERFACE}
elif [[ -n $hostfile ]]; then
  # Bridges of containers have the same address on every host: messages would go to the wrong machine.
  bridges=$(find /sys/class/net -mindepth 1 -printf '%f\n' | grep -E '^(docker|virbr|br-|cni|lxc)' | tr '\n' ',' || true)
  choose_interfaces exclude "${bridges}lo"
  export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-^docker,virbr,br-,cni,lxc,lo}
fi
# GPUs are numbered by PCI address, as nvidia-smi and bind_rank.sh do.
export CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER:-PCI_BUS_ID}
export FWL_LAUNCHER=mpirun.sh # signals are passed on in time, which a plain mpirun does not
# The shell's own list of what is exported: lines of `env` may belong to the value before.
while read -r name; do flags+=(-x "$name"); done < <(compgen -e |
  grep -E '^((FWL|HDF5|NCCL|UCX|FI|OMP|GOMP|KMP|MKL|TORCH|PYTORCH|OMPI_MCA|PMIX_MCA|PRTE_MCA)_.*|CUDA_DEVICE_ORDER|LD_LIBRARY_PATH)$' || true)
start=("$mpirun" "${flags[@]}" "$here/bind_rank.sh" "$fwl")

# The doctor sees the config and settings of `train`, which reads its own arguments.
doctor=(doctor --quick)
case $1 in
  train) doctor=(train --doctor "${@:2}") ;;
  doctor) check= ;;
esac
if [[ -n $dry_run ]]; then
  shown=()
  for word in "${start[@]}"; do
    if [[ -n $temporary && $word == "$temporary" ]]; then word=$given_hostfile; fi
    shown+=("$word")
  done
  if [[ -n $check ]]; then printf '%q ' "${shown[@]}" "${doctor[@]}" && echo; fi
  printf '%q ' "${shown[@]}" "$@" && echo
  exit 0
fi
# end_with CODE: mpirun's own code for hosts that it cannot start ranks on is none of fwl's.
end_with() {
  (($1 == 255)) || exit "$1"
  echo "error: $mpirun could not start ranks on all hosts (see its message above). Check the hosts' names, ssh without a password, and Open MPI there." >&2
  exit 4
}

# ---- start

# run COMMAND...: in a process group of its own, so that Ctrl-C reaches this script alone. Sets $code.
run() {
  set -m
  (trap '' USR1 && exec "$@" </dev/null) &
  pid=$!
  set +m
  if ((signals > 0)); then if [[ -n $checking ]]; then kill -TERM "$pid" 2>/dev/null || true; else ask_to_save; fi; fi
  while :; do
    interrupted='' code=0
    wait "$pid" || code=$?
    [[ -n $interrupted ]] || break
  done
  pid=''
}
end_if_asked
if [[ -n $check ]]; then
  checking=1
  run "${start[@]}" "${doctor[@]}"
  checking=
  end_if_asked
  ((code == 0)) || end_with "$code"
fi
run "${start[@]}" "$@"
end_with "$code"

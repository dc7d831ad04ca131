#!/usr/bin/env bash
# Starts `fwl` on several ranks of this machine or of the hosts of a hostfile, after checking that they fit together.
#
#   launch/mpirun.sh [-n RANKS] [--hostfile FILE] [--no-check] [--dry-run] COMMAND [ARGUMENTS]...
#   launch/mpirun.sh -n 4 train launch/configs/small.yaml --set data.path=data
#   launch/mpirun.sh --hostfile hosts doctor
#
# RANKS defaults to the hostfile's slots, or to this machine's GPUs (without a GPU: 1). A hostfile has lines like
# "node1 slots=8". Each rank takes the GPU of its number on the host and its share of the cores (launch/bind_rank.sh).
# Before COMMAND starts, `fwl doctor --quick` compares program, config and libraries of all ranks, tries ports, GPUs and
# the shared folder, and prints a table of rank, host, GPU, cores and NUMA node; a failed check ends the start.
# SIGINT and SIGTERM reach all ranks as SIGUSR1 (save and end with 75); a second one ends them at once.
#
# Environment: FWL (program, default build/bin/fwl), FWL_INTERFACE (network interface between hosts, e.g. ib0 or eth1; default:
# all but loopback and bridges of containers), FWL_MPIRUN (default mpirun), FWL_BIND=none. NCCL_*, UCX_*, FWL_* and
# OMP_NUM_THREADS are passed on to all hosts.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage_error() {
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
    --no-check) check='' && shift ;;
    --dry-run) dry_run=1 && shift ;;
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;;
    -*) usage_error "unknown option $1 (options of fwl come after its command). See launch/mpirun.sh --help." ;;
    *) break ;;
  esac
done
(($# > 0)) || usage_error "no command was given (there is nothing to start). Give one, for example: train CONFIG.yaml"
[[ -z $ranks || $ranks =~ ^[1-9][0-9]*$ ]] || usage_error "-n '$ranks' is no number of ranks. Give 1 or more."
[[ -z $hostfile || -r $hostfile ]] || usage_error "hostfile '$hostfile' cannot be read. Check the path."
fwl=$(realpath "${FWL:-$here/../build/bin/fwl}" 2>/dev/null || true)
[[ -x $fwl ]] || usage_error "'${FWL:-$here/../build/bin/fwl}' does not exist or is no program. Build it, or set FWL."
mpirun=${FWL_MPIRUN:-mpirun}
command -v "$mpirun" >/dev/null || usage_error "'$mpirun' was not found (it starts the ranks). Install Open MPI, or set FWL_MPIRUN."

# ---- what Open MPI and NCCL need

flags=(--bind-to none)
if [[ -z $ranks && -z $hostfile ]]; then
  ranks=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
  if ((ranks == 0)); then ranks=1; fi
fi
if [[ -n $ranks ]]; then flags+=(-n "$ranks"); fi
# slots_of FILE: all slots of a hostfile; nothing when a line leaves them to Open MPI.
slots_of() {
  awk '{ sub(/#.*/, "") } NF == 0 { next } { lines++ } match($0, /slots *= *[0-9]+/) { text = substr($0, RSTART, RLENGTH); sub(/.*= */, "", text); sum += text; next }
    { unknown = 1 } END { if (!lines) print 0; else if (!unknown) print sum }' "$1"
}
if [[ -n $hostfile ]]; then
  slots=$(slots_of "$hostfile")
  [[ $slots != 0 ]] || usage_error "hostfile '$hostfile' names no host. Write lines like 'node1 slots=8'."
  [[ -z $ranks || -z $slots ]] || ((ranks <= slots)) ||
    usage_error "-n $ranks is more than the $slots slots of '$hostfile' (each rank takes one). Raise slots= there, or lower -n."
fi
# On one machine the ranks are counted by the user, not by mpirun's idea of slots.
if [[ -n $hostfile ]]; then flags+=(--hostfile "$hostfile"); else flags+=(--oversubscribe --host "localhost:${ranks}"); fi
if [[ $(id -u) == 0 ]]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
# Containers forbid reading another process's memory; Open MPI then fails or warns at every message.
if [[ -e /.dockerenv || -e /run/.containerenv ]]; then
  export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
fi
if [[ -n ${FWL_INTERFACE:-} ]]; then
  flags+=(--mca btl_tcp_if_include "$FWL_INTERFACE" --mca oob_tcp_if_include "$FWL_INTERFACE")
  export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$FWL_INTERFACE}
elif [[ -n $hostfile ]]; then
  # Bridges of containers have the same address on every host: messages would go to the wrong machine.
  bridges=$(find /sys/class/net -mindepth 1 -printf '%f\n' | grep -E '^(docker|virbr|br-|cni|lxc)' | tr '\n' ',' || true)
  flags+=(--mca btl_tcp_if_exclude "${bridges}lo" --mca oob_tcp_if_exclude "${bridges}lo")
  export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-^docker,virbr,br-,cni,lxc,lo}
fi
# GPUs are numbered by PCI address, as nvidia-smi and bind_rank.sh do.
export CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER:-PCI_BUS_ID}
while IFS='=' read -r name _; do flags+=(-x "$name"); done \
  < <(env | grep -E '^(NCCL_|UCX_|FWL_|CUDA_DEVICE_ORDER=|OMP_NUM_THREADS=)' || true)
start=("$mpirun" "${flags[@]}" "$here/bind_rank.sh" "$fwl")

# The doctor sees the config and settings of `train`.
doctor=(doctor --quick)
if [[ $1 == train ]]; then
  words=("${@:2}")
  for ((i = 0; i < ${#words[@]}; i++)); do
    case ${words[i]} in
      --set) i=$((i + 1)) && doctor+=(--set "${words[i]:-}") ;;
      --set=*) doctor+=("${words[i]}") ;;
      -*) ;;
      *) doctor+=(--config "${words[i]}") ;;
    esac
  done
fi
if [[ $1 == doctor ]]; then check=; fi
if [[ -n $dry_run ]]; then
  if [[ -n $check ]]; then printf '%q ' "${start[@]}" "${doctor[@]}" && echo; fi
  printf '%q ' "${start[@]}" "$@" && echo
  exit 0
fi
# end_with CODE: mpirun's own code for hosts that it cannot start ranks on is none of fwl's.
end_with() {
  (($1 == 255)) || exit "$1"
  echo "error: $mpirun could not start ranks on all hosts (see its message above). Check the hosts' names, ssh without a password, and Open MPI there." >&2
  exit 4
}
if [[ -n $check ]]; then "${start[@]}" "${doctor[@]}" </dev/null || end_with $?; fi

# ---- start. mpirun would kill the ranks one second after a SIGTERM or SIGINT; SIGUSR1 it passes on.

signals=0
pass_on() {
  signals=$((signals + 1)) interrupted=1
  if ((signals == 1)); then
    echo "launch/mpirun.sh: asking all ranks to save and end (once more ends them at once)" >&2
    kill -USR1 "$pid" 2>/dev/null || true
  else
    kill -TERM "$pid" 2>/dev/null || true
  fi
}
set -m # an own process group: Ctrl-C reaches this script alone
"${start[@]}" "$@" </dev/null &
pid=$!
set +m
trap pass_on INT TERM USR1
while :; do
  interrupted='' code=0
  wait "$pid" || code=$?
  [[ -n $interrupted ]] || end_with "$code"
done
